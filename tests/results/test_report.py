"""From a store to files, and the proof that files are what the records say."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from results import report
from results.claims.claims import CLAIMS_FILE, load_claims
from results.errors import RecordError
from results.records.store import Store, write_atomically
from results.report import Results
from results.tables import registry
from tests.results.factory import PNG, one_block, write

FILES = [f"{table}.{form}" for table in registry.names() for form in ("md", "tex", "csv")] + ["leaderboard.html"]


def _edit(path: Path) -> None:
    path.write_text(path.read_text().replace("74", "84", 1))


def _end_lines_otherwise(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def test_everything_is_written_and_found_unchanged(golden: Results, tmp_path: Path) -> None:
    written = report.write_all(golden, tmp_path / "new" / "leaderboard")
    assert [path.name for path in written] == FILES and all(path.stat().st_size for path in written)
    assert sorted(path.name for path in written[0].parent.iterdir()) == sorted(FILES)
    assert report.check(golden, written[0].parent) == []


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("scores.md", _edit, ["differs", "+", "-"]),
        ("leaderboard.html", _edit, ["differs"]),
        ("cost.csv", Path.unlink, ["is missing"]),
        ("summary.tex", _end_lines_otherwise, ["line ends differ"]),
    ],
)
def test_an_edited_file_is_found(
    golden: Results, tmp_path: Path, name: str, change: Callable[[Path], None], words: list[str]
) -> None:
    report.write_all(golden, tmp_path)
    change(tmp_path / name)
    (message,) = report.check(golden, tmp_path)
    assert name in message and all(word in message for word in words) and len(message) < 10_000


def test_a_full_disk_keeps_the_old_leaderboard(
    golden: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report.write_all(golden, tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("results.records.store.os.fsync", full)
        with pytest.raises(RecordError, match="the disk is full"):
            report.write_all(golden, tmp_path)
    assert report.check(golden, tmp_path) == [] and len(list(tmp_path.iterdir())) == len(FILES)


def test_stores_filled_in_another_order_give_the_same_bytes(tmp_path: Path) -> None:
    manifest, records = one_block({"none": (70.0, 71.0), "kd": (74.0, None), "at": (73.0, 75.0)})
    one = write(tmp_path / "a", manifest, records)
    other = write(tmp_path / "b", manifest, dict(reversed(records.items())))
    assert report.contents(report.load(one.root, "tiny")) == report.contents(report.load(other.root, "tiny"))


def test_sample_pictures_of_a_store_are_part_of_the_page_and_of_its_check(tmp_path: Path) -> None:
    store = write(tmp_path / "runs", *one_block({"none": (70.0, 71.0), "kd": (74.0, 75.0)}))
    report.write_all(report.load(store.root, "tiny"), tmp_path / "out")
    cell = report.load(store.root, "tiny").manifest.rows[0].id
    write_atomically(store.samples_path(cell), PNG)
    found = report.load(store.root, "tiny")
    assert list(found.samples) == [cell] and report.contents(found) == report.contents(found)
    (message,) = report.check(found, tmp_path / "out")
    assert "leaderboard.html: differs" in message
    report.write_all(found, tmp_path / "out")
    assert report.check(found, tmp_path / "out") == []
    store.samples_path(cell).write_text("not a picture")
    with pytest.raises(RecordError, match="is no PNG picture; delete it, or make it again with 'adm samples'"):
        report.page(found)


def test_a_store_without_the_suite_says_what_it_has(store: Store) -> None:
    write(store.root, *one_block({"none": (70.0,)}))
    with pytest.raises(RecordError, match="did you mean 'tiny'"):
        report.load(store.root, "tinny")


def test_an_unknown_table_gets_the_nearest_name(golden: Results) -> None:
    with pytest.raises(RecordError, match="did you mean 'scores'"):
        report.tables_of(golden, "score")


def test_cells_without_a_record_are_counted(tmp_path: Path) -> None:
    manifest, records = one_block({"none": (70.0, 71.0), "kd": (74.0, 75.0)})
    write(tmp_path, manifest, dict(list(records.items())[:3]))
    assert report.load(tmp_path, "tiny").not_run == 1


def test_the_published_figures_that_come_with_the_package_can_be_read() -> None:
    found = load_claims()
    assert CLAIMS_FILE.name == "claims.yaml" and found
    assert all(claim.source and claim.protocol and claim.value > 0 for claim in found)
    assert all(claim.value <= 100 for claim in found if claim.metric != "fid")


def test_figures_of_generated_images_state_their_evaluations() -> None:
    found = {
        (c.source, c.nfe): c.value for c in load_claims() if c.benchmark == "cifar10" and c.student == "ddpm-cifar"
    }
    eta_0 = {nfe: value for (source, nfe), value in found.items() if source == "DDIM paper, eta 0"}
    assert eta_0 == {10: 13.36, 20: 6.84, 50: 4.67, 100: 4.16, 1000: 4.04}
    assert found["DDPM paper", 1000] == 3.17


def test_one_entry_of_pairs_or_of_evaluations_holds_for_all_figures(tmp_path: Path) -> None:
    opening = "- {source: s, benchmark: b, protocol: p, metric: fid, "
    (tmp_path / "claims.yaml").write_text(
        f"{opening} regime: alone, pairs: [a], nfe: [10, 20], student: {{none: [8, 4]}}}}\n"
        f"{opening} regime: offline, pairs: [a > b, a > c], nfe: [10], student: {{kd: [6, 5]}}}}\n"
        f"{opening} regime: offline, pairs: [a > d, a > e], nfe: [1, 2], student: {{kd: [3, 2]}}}}\n"
    )
    found = [(c.teacher, c.student, c.nfe, c.value) for c in load_claims(tmp_path / "claims.yaml")]
    assert found == [(None, "a", 10, 8), (None, "a", 20, 4), ("a", "b", 10, 6), ("a", "c", 10, 5), ("a", "d", 1, 3),
                     ("a", "e", 2, 2)]  # fmt: skip


def test_no_published_column_mixes_the_cityscapes_val_set_with_its_test_server() -> None:
    splits: dict[str, set[str]] = {"test": set(), "val": set()}
    for claim in load_claims():
        if claim.benchmark == "cityscapes":
            split = "test" if claim.source.endswith(", test server") else "val"
            splits[split].add(claim.protocol.split(":")[0])
    assert splits["test"] == {"Cityscapes test server, not val"}
    assert splits["val"] and all(opening.startswith("Cityscapes val") for opening in splits["val"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {source: s", "is not YAML"),
        ("- {source: s, benchmark: b, regime: offline, protocol: p, pairs: [a > b], methods: {}}", "methods"),
        ("- {source: s, benchmark: b, regime: offline, protocol: p, pairs: [a to b]}", r"pairs\.0"),
        ("- {source: s, benchmark: b, regime: offline, protocol: p, pairs: [a > b, a > b]}", "stands twice"),
        (
            "- {source: s, benchmark: b, regime: offline, protocol: p, pairs: [a > b], student: {kd: [1, 2]}}",
            "2 figures for 1",
        ),
        ("- {source: s, benchmark: b, regime: offline, protocol: p, pairs: [a > b], student: {kd: [.nan]}}", "finite"),
        (
            "- &x {source: s, benchmark: b, regime: offline, protocol: p, pairs: [a > b], student: {kd: [1]}}\n- *x",
            "gives kd on a > b .student. twice",
        ),
        (
            "- {source: s, benchmark: b, regime: offline, protocol: p, pairs: [a > b], metric: ffid}",
            "'ffid' is none of",
        ),
        ("- {source: s, benchmark: b, regime: offline, protocol: p, pairs: [a]}", "teacher > student each"),
        ("- {source: s, benchmark: b, regime: alone, protocol: p, pairs: [a > b]}", "one network each"),
        (
            "- {source: s, benchmark: b, regime: alone, protocol: p, pairs: [a], teacher: {none: [1]}}",
            "stands under 'student'",
        ),
        (
            "- {source: s, benchmark: b, regime: alone, protocol: p, pairs: [a], nfe: [1, 2], student: {none: [1]}}",
            "1 figures for 2 numbers of evaluations",
        ),
        (
            "- {source: s, benchmark: b, regime: alone, protocol: p, pairs: [a, b], nfe: [1, 2, 3]}",
            "'nfe' has 3 entries for 2 pairs",
        ),
    ],
)
def test_a_mistake_in_published_figures_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "claims.yaml").write_text(text)
    with pytest.raises(RecordError, match=message) as raised:
        load_claims(tmp_path / "claims.yaml")
    assert str(raised.value).startswith(str(tmp_path / "claims.yaml"))
