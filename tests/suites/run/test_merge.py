"""``adm merge``: several stores become one, or nothing is written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import adm, refusal
from conftest import ROOT

from results import report
from results.records.schema import Record
from results.records.store import Store
from suites.run.merge import merge
from suites.work.folder import WorkFolder
from suites.work.locks import acquire
from tests.results.factory import failed, make_cell, make_manifest, make_record, write

QUICK = ROOT / "results" / "leaderboards" / "quick"


def files(root: Path) -> dict[str, bytes]:
    """Every file of a store and its content, locks left out."""
    found = (path for path in root.rglob("*") if path.is_file() and path.parent.name != "locks")
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def store_of(root: Path, *records: Record, **manifest: str) -> Store:
    """A store with a suite of these records."""
    found = {record.id: record for record in records}
    return write(root, make_manifest([record.cell for record in records], **manifest), found)


def lone(score: float = 90.0, weights: bytes | None = None) -> Record:
    """A teacher's record, which says what its weights are."""
    digests = {"student": hashlib.sha256(weights).hexdigest()} if weights is not None else {}
    return make_record(make_cell(regime="alone", student="resnet20"), score, weights=digests)


@pytest.fixture
def halves(tmp_path: Path) -> tuple[Path, Path]:
    """The committed records of ``quick`` as two clusters would have left them; a third of the cells are in both."""
    folders = tmp_path / "left", tmp_path / "right"
    for folder, gone in zip(folders, (0, 1), strict=True):
        shutil.copytree(QUICK, folder)
        for number, path in enumerate(sorted((folder / "records").iterdir())):
            if number % 3 == gone:
                path.unlink()
        document = json.loads((folder / "suites" / "quick.json").read_text())
        document["rows"] = [row for row in document["rows"] if (folder / "records" / f"{row['id']}.json").exists()]
        (folder / "suites" / "quick.json").write_text(json.dumps(document))
    return folders


def test_two_halves_are_the_leaderboard_that_they_were_made_of(halves: tuple[Path, Path], tmp_path: Path) -> None:
    answer = adm("merge", *halves, "--into", tmp_path / "all")
    assert answer.code == 0 and "suite quick: 50 cells" in answer.out and "34 records from left" in answer.out
    merged, _ = Store(tmp_path / "all").records()
    whole, _ = Store(QUICK).records()
    assert {cell: record.model_copy(update={"origin": None}) for cell, record in merged.items()} == whole
    assert {record.origin for record in merged.values()} == {"left", "right"}
    assert files(tmp_path / "all").keys() >= {name for name in files(QUICK) if name.startswith("protocols/")}
    ours, theirs = (report.load(root, "quick") for root in (tmp_path / "all", QUICK))
    tables = [sorted(report.text_of(found, "scores", "csv").split()) for found in (ours, theirs)]
    assert tables[0] == tables[1]


def test_merging_again_writes_nothing(halves: tuple[Path, Path], tmp_path: Path) -> None:
    words = ("merge", *halves, "--into", tmp_path / "all")
    adm(*words)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "all").rglob("*.json")}
    answer = adm(*words)
    assert "0 records from left\n0 records from right\n" in answer.out
    assert "already, with the same results: 51 cells" in answer.out
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "all").rglob("*.json")}
    adm("merge", tmp_path / "all", "--into", tmp_path / "further")  # a record's first store is what it names
    assert files(tmp_path / "further") == files(tmp_path / "all")


@pytest.mark.parametrize("writes", [0, 20])
def test_what_was_broken_off_is_merged_again(
    halves: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    adm("merge", *halves, "--into", tmp_path / "undisturbed")
    left = [None] * writes
    whole = Store.write_record

    def killed(store: Store, record: Record) -> Path:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return whole(store, record)

    sources = {folder.name: Store(folder) for folder in halves}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Store, "write_record", killed)
        merge(sources, Store(tmp_path / "all"))
    assert not Store(tmp_path / "all").manifests() and len(Store(tmp_path / "all").ids()) == writes
    merge(sources, Store(tmp_path / "all"))
    assert files(tmp_path / "all") == files(tmp_path / "undisturbed")


def test_two_results_of_one_cell_are_refused_with_both_files(tmp_path: Path) -> None:
    cells = [make_cell("kd", seed) for seed in range(3)]
    a = store_of(tmp_path / "a", *(make_record(cell, 80.0) for cell in cells))
    b = store_of(tmp_path / "b", *(make_record(cell, 80.0 + (cell.seed > 0)) for cell in cells))
    into = store_of(tmp_path / "all", make_record(make_cell("dkd")))
    before = files(into.root)
    told = refusal("merge", a.root, b.root, "--into", into.root)
    assert f"(kd on resnet20 > resnet8, seed 1) has two results: top1 80 in {a.record_path(cells[1].id)}" in told
    assert f"and top1 81 in {b.record_path(cells[1].id)}; nothing was merged" in told
    assert "1 more cells have two results" in told
    assert files(into.root) == before
    first = refusal("merge", b.root, "--into", a.root)  # the store that is added to counts like the others
    assert str(a.record_path(cells[1].id)) in first and str(b.record_path(cells[1].id)) in first


def test_a_finished_cell_counts_before_a_failed_one_and_equal_ones_count_once(tmp_path: Path) -> None:
    cells = [make_cell("kd", seed) for seed in range(2)]
    a = store_of(tmp_path / "a", failed(cells[0]), make_record(cells[1], 80.0))
    slower = make_record(cells[1], 80.0, environment={"device": "another CPU"})
    b = store_of(tmp_path / "b", make_record(cells[0], 75.0), slower)
    done = merge({"a": a, "b": b}, Store(tmp_path / "all"))
    merged, _ = Store(tmp_path / "all").records()
    assert {cell.seed: merged[cell.id].origin for cell in cells} == {0: "b", 1: "a"}
    assert done.taken == {"a": 1, "b": 1} and merged[cells[0].id].score("student") == 75.0
    merge({"a": a}, b)
    assert b.read_record(cells[0].id) == make_record(cells[0], 75.0)


def test_suites_of_one_name_are_united_unless_they_are_two(tmp_path: Path) -> None:
    one, two = (make_record(make_cell(method)) for method in ("none", "kd"))
    a = store_of(tmp_path / "a", one, title="Tiny")
    into = Store(tmp_path / "all")
    merge({"a": a, "b": store_of(tmp_path / "b", two, one, title="Tiny")}, into)
    assert [row.label for row in into.read_manifest("tiny").rows] == ["none", "kd"]
    for key, value in (("baseline", "kd"), ("title", "Somebody's")):
        other = store_of(tmp_path / key, two, **{key: value})
        told = refusal("merge", a.root, other.root, "--into", tmp_path / "none")
        assert (
            f"suite 'tiny' is two suites: its {key} is '" in told
            and f"'{value}' in {other.root}/suites/tiny.json" in told
        )
        assert not (tmp_path / "none").exists()


def test_teachers_weights_and_pictures_come_along_and_what_is_missing_is_told(tmp_path: Path) -> None:
    teacher, student = lone(weights=b"weights"), make_record(make_cell("kd"))
    a = store_of(tmp_path / "a", student, suite="students")
    b = store_of(tmp_path / "b", teacher, suite="teachers")
    a.samples_path(student.id).parent.mkdir()
    a.samples_path(student.id).write_bytes(b"a picture")
    answer = adm("merge", a.root, b.root, "--into", tmp_path / "all")
    assert f"in none of the stores: weights of the teachers resnet20 ({teacher.id})" in answer.err
    assert "in none of the stores: protocol 'quick' (0123456789abcdef)" in answer.err
    WorkFolder.of(b.root, teacher.id).report({})
    WorkFolder.of(b.root, teacher.id).weights.write_bytes(b"weights")
    answer = adm("merge", a.root, b.root, "--into", tmp_path / "all")
    assert answer.code == 0 and "weights" not in answer.err
    assert WorkFolder.of(tmp_path / "all", teacher.id).weights.read_bytes() == b"weights"
    assert Store(tmp_path / "all").samples_path(student.id).read_bytes() == b"a picture"


def test_what_is_not_of_its_digest_is_refused(halves: tuple[Path, Path], tmp_path: Path) -> None:
    b = store_of(tmp_path / "b", lone(weights=b"weights"))
    WorkFolder.of(b.root, lone().id).report({})
    WorkFolder.of(b.root, lone().id).weights.write_bytes(b"other weights")
    assert "are not the weights of cell" in refusal("merge", b.root, "--into", tmp_path / "all")
    (protocol,) = (halves[0] / "protocols").iterdir()
    protocol.write_text(protocol.read_text().replace('"epochs": 12', '"epochs": 13'))
    assert f"{protocol}: is not the protocol of that digest" in refusal("merge", *halves, "--into", tmp_path / "all")
    shutil.copy(next((QUICK / "protocols").iterdir()), protocol)
    record = next((halves[0] / "records").iterdir())
    record.write_text(record.read_text().replace('"seed": ', '"seed": 1'))
    told = refusal("merge", *halves, "--into", tmp_path / "all")
    assert f"{record}: is damaged" in told and f"id '{record.stem}' is not the cell's" in told
    assert not (tmp_path / "all").exists()


def test_a_cell_at_which_a_runner_is_and_ids_of_an_earlier_version_are_refused(tmp_path: Path) -> None:
    record = make_record(make_cell("kd"))
    a = store_of(tmp_path / "a", record)
    lock = acquire(tmp_path / "all", record.id)
    assert lock is not None
    assert f"a runner is at cell {record.id}; nothing was merged" in refusal(
        "merge", a.root, "--into", tmp_path / "all"
    )
    lock.release()
    a.record_path(record.id).write_text('{"schema_version": 1}')
    assert f"adm migrate --store {a.root}" in refusal("merge", a.root, "--into", tmp_path / "all")


def test_stores_of_one_name_are_named(tmp_path: Path) -> None:
    for place, method in (("cluster", "kd"), ("laptop", "dkd")):
        store_of(tmp_path / place / "runs", make_record(make_cell(method)))
    told = refusal("merge", "cluster/runs", "laptop/runs", "--into", "all", cwd=tmp_path)
    assert "'laptop/runs' cannot be called 'runs': 'cluster/runs' has that name; give it a name" in told
    answer = adm("merge", "cluster=cluster/runs", "laptop/runs", "--into", "all", cwd=tmp_path)
    assert "1 record from cluster\n1 record from runs\n" in answer.out
    assert "no folder of records" in refusal("merge", "here", "--into", "all", cwd=tmp_path)
    assert "is the store that is added to" in refusal("merge", "all", "--into", "all", cwd=tmp_path)


def test_merging_loads_no_torch(halves: tuple[Path, Path], tmp_path: Path) -> None:
    probe = "import sys; sys.modules['torch'] = None; import adm_bench; adm_bench.main()"
    words = [sys.executable, "-c", probe, "merge", *map(str, halves), "--into", str(tmp_path / "all")]
    done = subprocess.run(
        words, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=120
    )
    assert done.returncode == 0 and "suite quick: 50 cells" in done.stdout, done.stderr
