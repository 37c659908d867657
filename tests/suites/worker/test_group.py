"""Cells that a worker trains together leave what each leaves alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from suites.spec.expand import PlannedCell, expand
from suites.work.folder import CHECKPOINT, Assignment, WorkFolder
from suites.work.options import RunOptions
from suites.worker.entry import main, run_cell, run_cells
from suites.worker.stopping import asked

PROTOCOL = """
title: two epochs on very few images
source: tests
task: classification
recipe: {epochs: 2, batch_size: 32, optimizer: {name: sgd, lr: 0.05}, ema: 0.9, selection: best-validation}
data: {train_limit: 96, test_limit: 64, validation: 0.2}
"""
SUITE = """
title: students of one teacher
blocks:
  - title: Offline
    task: classification
    benchmark: digit-scenes@1
    protocol: ./recipe.yaml
    pairs: [resnet14w16s2 > resnet8w8s2]
    regime: offline
    methods: [none, kd, simkd, cirkd]
    seeds: [0, 1]
  - title: A larger student
    task: classification
    benchmark: digit-scenes@1
    protocol: ./recipe.yaml
    pairs: [resnet14w16s2 > resnet8w12s2]
    regime: offline
    methods: [ofd+wkd-l]
    seeds: [0]
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, int], PlannedCell]]:
    """A store with the teacher and every cell of the group, each trained alone; and the cells by method and seed."""
    home = tmp_path_factory.mktemp("alone")
    (home / "recipe.yaml").write_text(PROTOCOL)
    (home / "mine.yaml").write_text(SUITE)
    cells = {(planned.label, planned.cell.seed): planned for planned in expand(str(home / "mine.yaml")).rows}
    store = home / "runs"
    teacher = cells["kd", 0].teacher
    assert teacher is not None
    for planned in (teacher, *(planned for (_, seed), planned in cells.items() if seed == 0)):
        run_cell(assign(planned, store))
    return store, cells


@pytest.fixture
def store(trained: tuple[Path, dict[tuple[str, int], PlannedCell]], tmp_path: Path) -> Path:
    """A store with the teacher alone."""
    teacher = trained[1]["kd", 0].teacher
    assert teacher is not None
    shutil.copytree(WorkFolder.of(trained[0], teacher.id).path, WorkFolder.of(tmp_path, teacher.id).path)
    return tmp_path


@pytest.fixture(autouse=True)
def nobody_asks() -> Iterator[None]:
    yield
    asked.clear()


def assign(planned: PlannedCell, store: Path) -> WorkFolder:
    folder = WorkFolder.of(store, planned.id)
    folder.assign(
        Assignment(cell=planned.cell, protocol=planned.protocol, options=RunOptions(store=store, device="cpu"))
    )
    return folder


def members(cells: dict[tuple[str, int], PlannedCell], store: Path) -> list[WorkFolder]:
    return [assign(planned, store) for (_, seed), planned in cells.items() if seed == 0]


def outcome(store: Path, cell: str) -> dict[str, Any]:
    found = WorkFolder.of(store, cell).outcome()
    assert found is not None
    return found


def assert_as_alone(store: Path, alone: Path, cell: str) -> None:
    """The same outcome, weights to the bit by their digest, but for what takes time and memory."""
    ours, theirs = outcome(store, cell), outcome(alone, cell)
    own = {key: value for key, value in ours.items() if key not in ("cost", "seconds")}
    assert own == {key: value for key, value in theirs.items() if key not in ("cost", "seconds")}
    assert list(ours) == list(theirs)
    for part in ("parameters", "flops"):
        assert ours.get("cost", {}).get(part) == theirs.get("cost", {}).get(part)


def test_a_group_leaves_what_its_members_leave_alone(trained, store: Path) -> None:
    alone, cells = trained
    folders = members(cells, store)
    assert main([str(folder.path) for folder in folders]) == 0
    statuses = {label: outcome(store, planned.id)["status"] for (label, seed), planned in cells.items() if seed == 0}
    assert statuses == {"none": "ok", "kd": "ok", "simkd": "ok", "cirkd": "skipped", "ofd+wkd-l": "ok"}
    for (label, seed), planned in cells.items():
        if seed:
            continue
        assert_as_alone(store, alone, planned.id)
        if label != "cirkd":
            cost, there = outcome(store, planned.id)["cost"], outcome(alone, planned.id)["cost"]
            assert cost["group"]["members"] == 4 and 0 < cost["group"]["shared_s"] < cost["train_s"]
            assert set(cost) == {*there, "group"} and cost["peak_memory_mb"] > 0
            assert WorkFolder.of(store, planned.id).progress()["epoch"] == 2
    assert (
        outcome(store, cells["none", 0].id)["cost"]["group"]["shared_s"]
        < (outcome(store, cells["kd", 0].id)["cost"]["group"]["shared_s"])
    )


def test_a_group_that_was_asked_to_stop_goes_on_where_it_was(trained, store: Path) -> None:
    alone, cells = trained
    folders = members(cells, store)
    asked.set()
    run_cells(folders)
    unfit = cells["cirkd", 0].id
    assert [folder.path.name for folder in folders if folder.outcome()] == [unfit]
    assert all((folder.path / CHECKPOINT).is_file() for folder in folders if folder.path.name != unfit)
    asked.clear()
    run_cells([folder for folder in folders if folder.path.name != unfit])
    for folder in folders:
        assert_as_alone(store, alone, folder.path.name)


def test_a_member_that_cannot_begin_leaves_the_others(trained, store: Path) -> None:
    alone, cells = trained
    damaged, whole = (assign(cells[label, 0], store) for label in ("kd", "none"))
    (damaged.path / "cell.json").write_text("{}")
    run_cells([damaged, whole])
    told = damaged.outcome()
    assert told is not None and told["status"] == "error" and "not a worker's assignment" in told["reason"]
    assert_as_alone(store, alone, whole.path.name)
    assert "group" not in outcome(store, whole.path.name)["cost"]


def test_without_their_teacher_all_fail_alike(trained, store: Path) -> None:
    cells = trained[1]
    teacher = cells["kd", 0].teacher
    assert teacher is not None
    WorkFolder.of(store, teacher.id).weights.unlink()
    folders = [assign(cells[label, 0], store) for label in ("kd", "none")]
    run_cells(folders)
    reasons = {json.dumps([told["status"], told["reason"]]) for folder in folders if (told := folder.outcome())}
    assert len(reasons) == 1 and "weights of teacher 'resnet14w16s2' are missing" in reasons.pop()


def test_cells_that_are_no_group_are_refused(trained, store: Path) -> None:
    cells = trained[1]
    folders = [assign(cells["kd", seed], store) for seed in (0, 1)]
    run_cells(folders)
    for folder in folders:
        told = folder.outcome()
        assert told is not None and told["status"] == "error" and "are no group" in told["reason"]


def test_what_trains_one_cell_trains_several_one_after_the_other(trained, store: Path) -> None:
    cells = trained[1]
    folders, order = [assign(cells["kd", seed], store) for seed in (1, 0)], []

    def train(cell: Any, *_: Any) -> dict[str, Any]:
        order.append(cell.seed)
        return {}

    run_cells(folders, train)
    assert order == [1, 0] and all((folder.outcome() or {})["status"] == "ok" for folder in folders)
