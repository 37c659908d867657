"""From a store to files, and the proof that files are what the records say."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest

from results import report
from results.errors import RecordError
from results.records.store import Store, write_atomically
from results.report import Results
from results.tables import registry
from tests.results import golden_suite
from tests.results.factory import PNG, one_block, write

FILES = [f"{table}.{form}" for table in registry.names() for form in ("md", "tex", "csv")] + ["leaderboard.html"]


def _edit(path: Path) -> None:
    path.write_text(path.read_text().replace("74", "84", 1))


def _redraw(path: Path) -> None:
    text = path.read_text()
    place = text.index("<path", text.index('<svg class="plot"'))
    path.write_text(f"{text[:place]}<path/>{text[place:]}")


def _end_lines_otherwise(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    """The text of every file that is written of the golden suite."""
    found = golden_suite.contents()
    return {name: found[name] for name in FILES}


@pytest.fixture
def own(files: dict[str, str], tmp_path: Path) -> Path:
    """A folder of them to do harm to."""
    for name, text in files.items():
        (tmp_path / name).write_text(text, newline="")
    return tmp_path


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
        ("leaderboard.html", _redraw, ["in its plots alone", f"matplotlib, which is version {matplotlib.__version__}"]),
        ("older.csv", Path.touch, ["is none of the files that the records give"]),
        (".scores.md.0a1b2c3d.tmp", Path.touch, ["is none of the files"]),
        ("summary.tex", _end_lines_otherwise, ["line ends differ"]),
    ],
)
def test_an_edited_file_is_found(
    golden: Results, own: Path, name: str, change: Callable[[Path], None], words: list[str]
) -> None:
    change(own / name)
    (message,) = report.check(golden, own)
    assert name in message and all(word in message for word in words) and len(message) < 10_000


def test_a_full_disk_keeps_the_old_leaderboard(golden: Results, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("adm_files.os.fsync", full)
        with pytest.raises(RecordError, match="the disk is full"):
            report.write_all(golden, own)
    assert report.check(golden, own) == [] and len(list(own.iterdir())) == len(FILES)


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
