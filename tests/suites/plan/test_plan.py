"""What a suite still lacks, why, and what it will cost, from records made by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command_line import adm

from results.records.schema import Attempt, Cost, Record
from results.records.store import Store
from suites.plan.plan import PlanRow, make_plan
from suites.spec.expand import Expansion, PlannedCell, expand
from suites.work.folder import WorkFolder
from suites.work.locks import acquire


@pytest.fixture
def expansion(suite: Path) -> Expansion:
    return expand(str(suite))


def finish(
    planned: PlannedCell, store: Path, status: str = "ok", seconds: float = 10.0, peak_mb: float | None = None
) -> None:
    """The record that the cell's training would have left; of a teacher, its weights as well."""
    attempt = Attempt(status=status, reason=None if status == "ok" else "it went wrong", seconds=seconds)
    content = {"scores": {"student": {"top1": 50.0}}} if status == "ok" else {}
    made = Record(
        id=planned.id, cell=planned.cell, status=status, reason=attempt.reason, attempts=[attempt],
        cost=Cost(train_s=seconds, peak_memory_mb=peak_mb), **content,
        primary={"metric": "top1", "higher_is_better": True, "unit": "%", "selection": "last"} if content else None,
    )  # fmt: skip
    Store(store).write_record(made)
    if planned.cell.regime == "alone":
        folder = WorkFolder.of(store, planned.id)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.weights.touch()


def states(expansion: Expansion, store: Path) -> dict[tuple[str, str, int], PlanRow]:
    """Rows of the plan by regime, method and seed."""
    plan = make_plan(expansion, Store(store), 1)
    rows = (*plan.artefacts, *plan.rows)
    return {(r.planned.cell.regime, r.planned.cell.method_name, r.planned.cell.seed): r for r in rows}


def test_a_finished_teacher_is_trained_again_only_where_weights_are_gone_and_needed(
    expansion: Expansion, store: Path
) -> None:
    (teacher,) = expansion.artefacts
    learners = [row for row in expansion.rows if row.teacher]
    finish(teacher, store)
    assert states(expansion, store)["alone", "none", 0].state == "done"
    WorkFolder.of(store, teacher.id).weights.unlink()
    found = states(expansion, store)
    assert (found["alone", "none", 0].state, found["alone", "none", 0].reason) == ("to do", "its weights are missing")
    assert found["offline", "kd", 0].reason == "no record; its teacher is trained first"
    for row in learners:
        finish(row, store)
    assert states(expansion, store)["alone", "none", 0].state == "done"


def test_a_teacher_that_nothing_needs_any_more_is_not_trained(expansion: Expansion, store: Path) -> None:
    for row in expansion.rows:
        finish(row, store)
    found = states(expansion, store)["alone", "none", 0]
    assert (found.state, found.reason, found.open) == ("not needed", "no cell to be trained needs it", False)


@pytest.mark.parametrize(
    ("status", "state"), [("ok", "done"), ("skipped", "done"), ("diverged", "failed"), ("interrupted", "to do")]
)
def test_what_a_record_says_decides(expansion: Expansion, store: Path, status: str, state: str) -> None:
    row = next(row for row in expansion.rows if row.cell.method_name == "dml")
    finish(row, store, status)
    found = states(expansion, store)["online", "dml", row.cell.seed]
    assert found.state == state
    assert found.open == (state != "done")


def test_a_cell_that_somebody_holds_is_running(expansion: Expansion, store: Path) -> None:
    row = next(row for row in expansion.rows if row.cell.method_name == "dml")
    lock = acquire(store, row.id)
    assert lock is not None
    assert states(expansion, store)["online", "dml", row.cell.seed].state == "running"
    lock.release()
    assert states(expansion, store)["online", "dml", row.cell.seed].state == "to do"


def test_estimates_are_of_the_same_method_or_else_of_its_neighbours(expansion: Expansion, store: Path) -> None:
    by_name = {(row.cell.method_name, row.cell.regime, row.cell.seed): row for row in expansion.rows}
    finish(by_name["dml", "online", 0], store, seconds=30.0)
    found = states(expansion, store)
    assert found["online", "dml", 1].seconds == 30.0
    assert found["online", "none", 0].seconds == 30.0  # nothing closer has been timed
    assert found["offline", "kd", 0].seconds is None
    finish(by_name["none", "online", 0], store, seconds=10.0)
    found = states(expansion, store)
    assert (found["online", "dml", 1].seconds, found["online", "none", 1].seconds) == (30.0, 10.0)


def test_wall_time_is_spread_over_workers_but_never_below_the_longest_cell(expansion: Expansion, store: Path) -> None:
    by_name = {(row.cell.method_name, row.cell.regime, row.cell.seed): row for row in expansion.rows}
    finish(by_name["dml", "online", 0], store, seconds=30.0)
    finish(by_name["none", "online", 0], store, seconds=10.0)
    one, four = (make_plan(expansion, Store(store), workers) for workers in (1, 4))
    assert (one.seconds, four.seconds) == (40.0, 30.0)
    assert one.unknown == 5  # the teacher, and two methods with two seeds each that learn from it


def test_a_damaged_record_is_as_good_as_none_and_stray_files_are_nothing(expansion: Expansion, store: Path) -> None:
    for row in (*expansion.rows, *expansion.artefacts):
        finish(row, store)
    (teacher,), cell = expansion.artefacts, next(row for row in expansion.rows if row.cell.method_name == "kd")
    Store(store).record_path(teacher.id).write_bytes(b"\xff\xfe")
    (store / "records" / "data.json").write_text("no JSON")
    (store / "records" / "beef.json").mkdir()
    assert states(expansion, store)["alone", "none", 0].state == "not needed"
    Store(store).record_path(cell.id).write_text("{")
    found = states(expansion, store)
    lost = found["offline", "kd", cell.cell.seed]
    assert (lost.state, lost.open) == ("to do", True) and lost.reason.startswith("its record is unreadable: ")
    assert found["alone", "none", 0].open and sum(row.open for row in found.values()) == 2


@pytest.mark.parametrize("command", ["plan", "status"])
def test_each_record_is_opened_once(expansion: Expansion, suite: Path, store: Path, command: str) -> None:
    for planned in expansion.cells:
        finish(planned, store)
    opened: list[str] = []
    watching = [True]
    sys.addaudithook(  # hooks stay until the process ends
        lambda event, arguments: opened.append(str(arguments[0])) if watching and event == "open" else None
    )
    answer = adm(command, suite, "--store", store)
    watching.clear()
    assert answer.code == 0 and "9 done" in answer.out
    records = [name for name in opened if name.startswith(f"{store}/records/")]
    assert len(records) == len(set(records)) == 9
