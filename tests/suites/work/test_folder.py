"""A cell's work folder: whole files or none, and what is left of it when the cell is done."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from adm_core.errors import AdmError
from suites.work.folder import WorkFolder


def test_cells_of_a_store_have_a_folder_each(tmp_path: Path) -> None:
    assert WorkFolder.ids(tmp_path) == []
    for cell in ("b", "a"):
        WorkFolder.of(tmp_path, cell).report({"epoch": 1})
    (tmp_path / "work" / "notes.txt").touch()
    assert WorkFolder.ids(tmp_path) == ["a", "b"]
    assert WorkFolder.of(tmp_path, "a").progress() == {"epoch": 1} and WorkFolder.of(tmp_path, "c").progress() == {}


def test_curves_are_kept_where_they_are_wanted_and_progress_never_holds_them(tmp_path: Path) -> None:
    folder, told = WorkFolder(tmp_path), {"epoch": 1, "curves": {"epoch": [1.0]}}
    folder.report(told)
    assert folder.curves() == {} and [path.name for path in tmp_path.iterdir()] == ["progress.json"]
    folder.report(told, with_curves=True)
    assert folder.curves() == {"epoch": [1.0]} and folder.progress() == {"epoch": 1}


def test_what_is_not_finite_is_written_as_nothing(tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path)
    folder.conclude({"scores": [math.nan, 1.5, {"x": -math.inf}]})
    assert json.loads((tmp_path / "outcome.json").read_text()) == {"scores": [None, 1.5, {"x": None}]}
    folder.forget_outcome()
    assert folder.outcome() is None


def test_an_outcome_that_is_cut_off_is_none(tmp_path: Path) -> None:
    (tmp_path / "outcome.json").write_text('{"status": "o')
    assert WorkFolder(tmp_path).outcome() is None


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read"), ("{}", "is not a worker's assignment")])
def test_a_missing_or_damaged_assignment_is_told(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / "cell.json").write_text(content)
    with pytest.raises(AdmError, match=rf"cell\.json: {words}"):
        WorkFolder(tmp_path).assignment()


def test_what_a_kill_left_half_written_goes_when_the_cell_is_done(tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path)
    for name in ("checkpoint.pt", ".checkpoint.pt.x1.tmp", ".progress.json.y2", "weights.safetensors", "log.txt"):
        (tmp_path / name).touch()
    folder.tidy()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.txt", "weights.safetensors"]
