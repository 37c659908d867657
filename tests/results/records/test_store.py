"""Files are whole or absent, whatever happens while they are written, and one bad file spoils no other."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from results import report
from results.errors import RecordError
from results.records.store import Store
from tests.results.factory import make_cell, make_manifest, make_record

ROOT = Path(__file__).parents[3]
Break = Callable[..., None]


def _files(store: Store) -> list[str]:
    return sorted(path.name for path in store.root.rglob("*") if path.is_file())


def _no_space(*_arguments: object, **_named: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _no_permission(*_arguments: object, **_named: object) -> None:
    raise OSError(errno.EACCES, "Permission denied")


def test_a_record_is_one_readable_file_with_a_line_per_curve(store: Store) -> None:
    record = make_record(make_cell(), curves={"epoch": [1.0, 2.0], "lr": [0.1, 0.01]})
    path = store.write_record(record)
    assert path == store.root / "records" / f"{record.id}.json" and _files(store) == [path.name]
    assert '  "lr": [0.1, 0.01]' in path.read_text().splitlines()
    assert json.loads(path.read_text())["schema_version"] == 2


@pytest.mark.parametrize("broken", ["fsync", "replace", "open"])
def test_a_full_disk_leaves_the_old_record_and_nothing_else(
    store: Store, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    cell = make_cell()
    path = store.write_record(make_record(cell, 70.0))
    before = path.read_bytes()
    monkeypatch.setattr(f"adm_files.os.{broken}", _no_space)
    with pytest.raises(RecordError) as raised:
        store.write_record(make_record(cell, 80.0))
    monkeypatch.undo()
    assert str(raised.value).startswith(f"{path}: the disk is full")
    assert "what was there before is intact" in str(raised.value) and "\n" not in str(raised.value)
    assert path.read_bytes() == before and _files(store) == [path.name]
    store.write_record(make_record(cell, 80.0))
    found = store.read_record(cell.id)
    assert found is not None and found.score("student") == 80.0


def test_a_full_disk_at_the_first_write_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adm_files.os.fsync", _no_space)
    with pytest.raises(RecordError, match="nothing was left behind"):
        store.write_record(make_record(make_cell()))
    assert _files(store) == []


def test_a_file_size_limit_of_the_system_is_survived(tmp_path: Path) -> None:
    """A real short write by the kernel, in a process of its own."""
    script = (
        "import resource, sys; from results.errors import RecordError; from results.records.store import Store\n"
        "from tests.results.factory import make_cell, make_record\n"
        "store, cell = Store(sys.argv[1]), make_cell()\n"
        "store.write_record(make_record(cell, 70.0))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try: store.write_record(make_record(cell, 80.0))\n"
        "except RecordError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
    assert "the disk is full (File too large)" in done.stdout, done.stderr
    found = Store(tmp_path).read_record(make_cell().id)
    assert found is not None and found.score("student") == 70.0 and len(_files(Store(tmp_path))) == 1


def test_other_faults_of_the_folder_are_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adm_files.os.open", _no_permission)
    with pytest.raises(RecordError, match="cannot be written: Permission denied; check the folder"):
        store.write_record(make_record(make_cell()))


def test_a_stop_between_writing_and_renaming_leaves_the_old_record(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = make_cell()
    store.write_record(make_record(cell, 70.0))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("adm_files.os.replace", stop)
    with pytest.raises(KeyboardInterrupt):
        store.write_record(make_record(cell, 80.0))
    found = store.read_record(cell.id)
    assert found is not None and found.score("student") == 70.0 and len(_files(store)) == 1


def test_the_file_is_on_disk_before_it_takes_the_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr("adm_files.os.fsync", lambda handle: (done.append("fsync"), fsync(handle))[1])
    monkeypatch.setattr("adm_files.os.replace", lambda a, b: (done.append("replace"), replace(a, b))[1])
    store.write_record(make_record(make_cell()))
    assert done == ["fsync", "replace", "fsync"]  # the file, its name, the folder


def test_one_bad_file_spoils_no_other(store: Store) -> None:
    cells = [make_cell(seed=seed) for seed in range(6)]
    paths = [store.write_record(make_record(cell)) for cell in cells]
    good = paths[0].read_bytes()
    paths[1].write_bytes(good[: len(good) // 2])
    paths[2].write_bytes(b"")
    paths[3].write_bytes(good.replace(b'"schema_version": 2', b'"schema_version": 3'))
    paths[4].write_bytes(b'"schema_version": 2, \xff\xfe')
    paths[5].write_bytes(good)
    found, problems = store.records()
    assert set(found) == {cells[0].id}
    said = {problem.cell_id: str(problem) for problem in problems}
    wanted = ["not complete JSON", "not complete JSON", "written by a newer ADM-Bench", "is damaged", "another cell"]
    for cell, path, words in zip(cells[1:], paths[1:], wanted, strict=True):
        assert str(path) in said[cell.id] and words in said[cell.id] and "\n" not in said[cell.id]


def test_a_wrong_value_is_named_by_its_place(store: Store) -> None:
    path = store.write_record(make_record(make_cell()))
    path.write_text(path.read_text().replace('"top1": 80.0', '"top1": "much"'))
    with pytest.raises(RecordError, match=r"is damaged: scores\.student\.top1: .*run its suite again"):
        store.read_record(path.stem)


def test_absent_records_are_no_problem_and_other_files_are_passed_over(store: Store) -> None:
    record = make_record(make_cell())
    store.write_record(record)
    (store.root / "records" / f".{record.id}.abc.tmp").write_text("half")
    for stray in ("README.json", "data.json", "abc.json", f"{record.id}-copy.json"):
        (store.root / "records" / stray).write_text("{}")
    assert store.read_record(make_cell(seed=9).id) is None
    assert store.records() == ({record.id: record}, [])
    assert store.records([record.id, make_cell(seed=9).id, record.id]) == ({record.id: record}, [])


def test_an_unknown_suite_gets_the_nearest_names(store: Store) -> None:
    with pytest.raises(RecordError, match="nothing has been run"):
        store.read_manifest("quick")
    store.write_manifest(make_manifest([make_cell()], "quick"))
    with pytest.raises(RecordError, match="did you mean 'quick'"):
        store.read_manifest("qiuck")


def test_a_damaged_record_shows_in_its_row_without_the_stores_path(store: Store) -> None:
    cells = [make_cell(method, seed) for method in ("none", "kd") for seed in (0, 1)]
    store.write_manifest(make_manifest(cells))
    for cell in cells:
        store.write_record(make_record(cell))
    store.record_path(cells[3].id).write_text("{")
    found = report.load(store.root, "tiny")
    line = found.blocks[0].lines[1]
    assert line.state == "1 ok, 1 unreadable" and not line.complete
    assert len(found.problems) == 1 and found.not_run == 0
    assert str(store.root) not in line.why and cells[3].id in line.why
