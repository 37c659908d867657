"""What ``--only``, ``--retry`` and ``--fresh`` ask for, and what a run then trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import starts
from drive import drive, find, record

from adm_core.errors import AdmError
from results.records.store import Store
from suites.plan.plan import Plan, make_plan
from suites.plan.selection import Selection, select
from suites.spec.expand import Expansion, expand

Behave = Callable[..., None]


@pytest.fixture
def expansion(suite: Path) -> Expansion:
    return expand(str(suite))


def chosen(expansion: Expansion, *only: str) -> set[tuple[str, str, int]]:
    """Regime, method and seed of the cells that are asked for."""
    selection = select(expansion, only)
    cells = [row.cell for row in expansion.rows if selection.takes(row)]
    return {(cell.regime, cell.method_name, cell.seed) for cell in cells}


def test_cells_are_chosen_by_what_they_are(expansion: Expansion) -> None:
    assert chosen(expansion, "method=k*") == {("offline", "kd", 0), ("offline", "kd", 1)}
    assert chosen(expansion, "method=kd", "method=dml", "seed=0") == {("offline", "kd", 0), ("online", "dml", 0)}
    assert chosen(expansion, "block=Online", "label=none") == {("online", "none", 0), ("online", "none", 1)}
    kd = next(row for row in expansion.rows if row.cell.method_name == "kd")
    assert chosen(expansion, kd.id[:12]) == {("offline", "kd", kd.cell.seed)}
    assert len(chosen(expansion, "student=resnet8", "benchmark=digit-*", "task=classification")) == 8


@pytest.mark.parametrize(
    ("only", "message"),
    [
        (["methd=kd"], "--only methd=kd: unknown key 'methd'; did you mean method\\?"),
        (["method=kdd"], "--only method=kdd: matches no cell of suite 'mine'; did you mean kd"),
        (["kd"], "--only kd: matches no cell of suite 'mine'; .* write KEY=PATTERN, as method=kd"),
        (["method=kd", "regime=online"], "--only method=kd --only regime=online: no cell of suite 'mine' matches all"),
    ],
)
def test_what_matches_nothing_is_refused(expansion: Expansion, only: list[str], message: str) -> None:
    with pytest.raises(AdmError, match=message):
        select(expansion, only)


def plan(suite: Path, store: Path, selection: Selection | None = None) -> Plan:
    return make_plan(expand(str(suite)), Store(store), 1, selection)


def others(plan: Plan) -> set[tuple[str, str]]:
    """Regime and method of the finished cells of other code."""
    return {(row.planned.cell.regime, row.planned.cell.method_name) for row in plan.of_other_code}


def test_only_what_is_asked_for_is_trained_with_the_teachers_that_it_lacks(suite: Path, store: Path) -> None:
    only = Selection(only={"method": ("kd",), "seed": ("0",)})
    assert drive(suite, store, selection=only).exit_code == 0
    assert set(starts(store)) == {find(suite, "kd", 0).id, find(suite, "none", 0, "alone").id}
    states = {row.planned.id: (row.state, row.reason, row.open) for row in plan(suite, store, only).cells}
    assert states[find(suite, "kd", 0).id] == ("done", "", False)
    assert states[find(suite, "kd", 1).id] == ("left out", "not among --only", False)


def test_endings_that_are_not_to_be_tried_again_stay_and_skipped_ones_may_be(
    suite: Path, store: Path, behave: Behave
) -> None:
    behave({"kd/0": "diverged", "kd/1": "unsupported", "dml/0": "oom"})
    assert drive(suite, store).exit_code == 1
    behave({})
    left = {(r.planned.cell.method_name, r.state) for r in plan(suite, store, Selection(frozenset({"oom"}))).rows}
    assert ("kd", "failed") in left
    drive(suite, store, selection=Selection(frozenset({"oom"})))
    found = [record(suite, store, "kd", seed).status for seed in (0, 1)]
    assert [*found, record(suite, store, "dml", regime="online").status] == ["diverged", "skipped", "ok"]
    drive(suite, store, selection=Selection(frozenset({"skipped"})))
    found = [record(suite, store, "kd", seed).status for seed in (0, 1)]
    assert found == ["diverged", "ok"]
    assert [a.status for a in record(suite, store, "kd", 1).attempts] == ["skipped", "ok"]


def trained_by_other_code(store: Path, cell: str, part: str) -> None:
    """Change a record as if a part of the code had been another."""
    file = store / "records" / f"{cell}.json"
    content = json.loads(file.read_text())
    content["code"][part] = "0" * 64
    file.write_text(json.dumps(content))


def test_cells_of_other_code_are_told_and_trained_anew_only_where_that_is_asked_for(suite: Path, store: Path) -> None:
    drive(suite, store)
    assert plan(suite, store).of_other_code == []
    begun = len(starts(store))
    kd, old = find(suite, "kd", 0), record(suite, store, "kd", 0)
    trained_by_other_code(store, kd.id, "method kd")
    made = plan(suite, store)
    assert (made.open, others(made)) == ([], {("offline", "kd")})
    assert made.of_other_code[0].other_code == ("method kd",)
    drive(suite, store)
    assert len(starts(store)) == begun
    fresh = Selection(fresh=True)
    row = next(row for row in plan(suite, store, fresh).open)
    assert (row.planned.id, row.state, row.reason) == (kd.id, "to do", "trained by other code (method kd)")
    drive(suite, store, selection=fresh)
    new = record(suite, store, "kd", 0)
    assert starts(store)[begun:] == [kd.id] and new.code == old.code and new.scores == old.scores
    assert [attempt.status for attempt in new.attempts] == ["ok", "ok"]
    kept = json.loads((store / "records" / f"{kd.id}.json.replaced").read_text())
    assert kept["code"]["method kd"] == "0" * 64 and kept["scores"] == old.scores
    assert plan(suite, store, fresh).open == []


def test_learners_of_a_teacher_that_other_code_trained_are_of_other_code_as_well(suite: Path, store: Path) -> None:
    drive(suite, store)
    for planned in expand(str(suite)).cells:
        if planned.cell.regime in ("alone", "offline"):
            trained_by_other_code(store, planned.id, "method none")
    assert others(plan(suite, store)) == {("alone", "none"), ("offline", "none"), ("offline", "kd")}
    one = plan(suite, store, Selection(only={"method": ("kd",), "seed": ("1",)}, fresh=True))
    assert {row.planned.id for row in one.open} == {find(suite, "kd", 1).id, find(suite, "none", 0, "alone").id}


def test_a_finished_record_outlives_a_new_attempt_that_fails(suite: Path, store: Path, behave: Behave) -> None:
    drive(suite, store)
    old = record(suite, store, "kd", 0)
    trained_by_other_code(store, old.id, "adm_core")
    behave({"kd/0": "diverged"})
    assert drive(suite, store, selection=Selection(fresh=True)).exit_code == 1
    kept = record(suite, store, "kd", 0)
    assert (kept.status, kept.scores) == ("ok", old.scores)
    assert [attempt.status for attempt in kept.attempts] == ["ok", "diverged"]
    behave({})
    assert drive(suite, store, selection=Selection(fresh=True)).exit_code == 0
    assert [attempt.status for attempt in record(suite, store, "kd", 0).attempts] == ["ok", "diverged", "ok"]
