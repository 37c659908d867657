"""What a method makes of a pass of its frozen teacher is made once, kept in the store, and taken from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adm_core.distiller import Distiller
from suites.spec.expand import PlannedCell, expand
from suites.work.folder import WorkFolder
from suites.work.options import RunOptions
from suites.worker.training import train_cell

PROTOCOL = """
title: one epoch on very few images
source: tests
task: classification
recipe: {epochs: 1, batch_size: 32, optimizer: {name: sgd, lr: 0.05}}
data: {train_limit: 96, test_limit: 64, crop_padding: 3, flip: false}
"""
SUITE = """
title: students of one teacher
blocks:
  - title: Offline
    task: classification
    benchmark: digit-scenes@1
    protocol: ./recipe.yaml
    pairs: [resnet14w16s2 > resnet8w8s2, resnet14w16s2 > resnet8w12s2]
    regime: offline
    methods: [kd, wkd-l, {method: wkd-l, settings: {wkd-l: {sharpness: 2.0}}, label: sharper}]
    seeds: [0]
"""


@pytest.fixture
def cells(tmp_path: Path) -> list[PlannedCell]:
    """Cells of a suite in a store that has their teacher, trained."""
    (tmp_path / "recipe.yaml").write_text(PROTOCOL)
    (tmp_path / "mine.yaml").write_text(SUITE)
    rows = expand(str(tmp_path / "mine.yaml")).rows
    teacher = rows[0].teacher
    assert teacher is not None
    train(teacher, tmp_path)
    return rows


def train(planned: PlannedCell, store: Path, name: str | None = None) -> dict[str, Any]:
    work = WorkFolder.of(store, name or planned.id)
    work.path.mkdir(parents=True, exist_ok=True)
    return train_cell(planned.cell, planned.protocol, work.path, RunOptions(device="cpu", store=store), lambda _: None)


def kept(store: Path) -> list[Path]:
    return sorted((store / "artefacts").glob("teacher-pass/*"))


def test_cells_of_one_teacher_share_a_pass(
    cells: list[PlannedCell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes, prepare = [], Distiller.prepare

    def counted(distiller: Distiller, batches: Any) -> Any:
        passes.append(distiller)
        return prepare(distiller, batches)

    monkeypatch.setattr(Distiller, "prepare", counted)
    named = {(planned.cell.student, planned.label): planned for planned in cells}
    small, sharper, large = (
        named[key] for key in (("resnet8w8s2", "wkd-l"), ("resnet8w8s2", "sharper"), ("resnet8w12s2", "wkd-l"))
    )
    first = train(small, tmp_path)
    assert len(passes) == len(kept(tmp_path)) == 1 and first["capabilities"] == ["teacher-pass"]

    train(large, tmp_path)
    assert len(passes) == len(kept(tmp_path)) == 1  # another student of the same teacher

    again = train(small, tmp_path, "again")
    assert len(passes) == 1 and again["scores"] == first["scores"] and again["curves"] == first["curves"]

    whole = kept(tmp_path)[0].read_bytes()
    kept(tmp_path)[0].write_bytes(whole[:-100])  # as a full disk leaves it
    anew = train(small, tmp_path, "anew")
    assert len(passes) == 2 and anew["scores"] == first["scores"] and kept(tmp_path)[0].read_bytes() == whole

    train(sharper, tmp_path)
    assert len(passes) == 3 and len(kept(tmp_path)) == 2  # other settings

    monkeypatch.setattr("suites.worker.opening.code_of", lambda cell: {"method wkd-l": "edited"})
    train(small, tmp_path, "edited")
    assert len(passes) == 4 and len(kept(tmp_path)) == 3


def test_a_method_without_a_pass_makes_none(cells: list[PlannedCell], tmp_path: Path) -> None:
    kd = next(p for p in cells if p.cell.method_name == "kd")
    train(kd, tmp_path)
    assert kept(tmp_path) == []
