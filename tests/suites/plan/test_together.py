"""How many cells a plan trains together: as many as are asked for or fit, and no more than leave all workers work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import adm
from conftest import SUITE

from results.records.store import Store
from suites.plan.groups import CAREFUL, LARGEST, Groups, Room, in_order
from suites.plan.plan import make_plan
from suites.spec.expand import Expansion, PlannedCell, expand
from tests.suites.plan.test_plan import finish

MANY = SUITE.replace("[none, kd]", "[none, kd, dkd, at, dist, {method: none, stretch: 2}]")


@pytest.fixture
def expansion(write_suite: Callable[[str], Path]) -> Expansion:
    """Two online methods, five offline ones and one that trains longer, with two seeds each."""
    return expand(str(write_suite(MANY)))


def together(expansion: Expansion, store: Path, room: Room, workers: int = 1) -> dict[tuple[str, str, int], int]:
    """What the plan says of each cell, by regime, label and seed."""
    rows = make_plan(expansion, Store(store), workers, room=room).cells
    return {(r.planned.cell.regime, r.planned.label, r.planned.cell.seed): r.together for r in rows}


def sizes(expansion: Expansion, store: Path, room: Room, workers: int = 1) -> list[int]:
    """Those of the first seed's five offline methods."""
    found = together(expansion, store, room, workers)
    return [found["offline", method, 0] for method in ("none", "kd", "dkd", "at", "dist")]


@pytest.mark.parametrize(
    ("room", "workers", "expected"),
    [
        (Room(1), 1, [1, 1, 1, 1, 1]),
        (Room(2), 1, [2, 2, 2, 2, 1]),
        (Room(64), 1, [5, 5, 5, 5, 5]),
        (Room(), 1, [CAREFUL] * 4 + [1]),  # what they take is not known
        (Room(None, 1e6), 1, [CAREFUL] * 4 + [1]),
        (Room(64), 8, [3, 3, 3, 2, 2]),  # of 17 cells 3 for each
        (Room(64), 17, [1, 1, 1, 1, 1]),
    ],
)
def test_groups_are_as_large_as_asked_for_and_leave_all_workers_work(
    expansion: Expansion, store: Path, room: Room, workers: int, expected: list[int]
) -> None:
    assert sizes(expansion, store, room, workers) == expected


def test_a_row_that_will_be_skipped_waits_for_no_teacher_and_joins_no_group(
    write_suite: Callable[[str], Path], store: Path
) -> None:
    rows = make_plan(expand(str(write_suite(MANY.replace("dist", "output")))), Store(store), 1, room=Room(64)).cells
    of = {row.planned.label: row for row in rows if row.planned.cell.regime == "offline" and row.planned.cell.seed == 0}
    told = "no record; will be skipped: the method reads denoiser, this task predicts class_logits"
    assert (of["output"].reason, of["output"].together, of["output"].seconds) == (told, 1, 0.0)
    assert (of["at"].reason, of["at"].together) == ("no record; its teacher is trained first", 4)


class Counted(dict[str, tuple[object, ...] | None]):
    """Keys that count how often one is looked up."""

    asked = 0

    def get(self, *key: Any) -> Any:
        self.asked += 1
        return super().get(*key)


def test_what_groups_will_be_is_told_of_many_cells_without_looking_at_all_of_them_for_each_group() -> None:
    cells = in_order(expand("cifar100-offline").cells)
    keys = Counted(Groups.of(Room(), cells, lambda _: None).keys)
    found = Groups(Room(), keys).sizes(cells, 2)
    assert len(found) == len(cells) > 2000 and set(found.values()) == {1, 2, 3, CAREFUL}
    assert keys.asked < 20 * len(cells)


def test_groups_fill_the_memory_that_finished_cells_say_they_need(expansion: Expansion, store: Path) -> None:
    row = next(r for r in expansion.rows if (r.cell.regime, r.label, r.cell.seed) == ("offline", "kd", 1))
    finish(row, store, peak_mb=300.0)
    assert sizes(expansion, store, Room(None, 899.0)) == [2, 2, 2, 2, 1]
    assert sizes(expansion, store, Room(None, 900.0)) == [3, 3, 3, 2, 2]
    assert sizes(expansion, store, Room(None, 100.0)) == [1] * 5  # one is always tried
    hungry = next(r for r in expansion.rows if (r.cell.regime, r.label, r.cell.seed) == ("offline", "dkd", 1))
    finish(hungry, store, peak_mb=700.0)
    assert sizes(expansion, store, Room(None, 1000.0)) == [2, 2, 1, 1, 1]  # none, at and dist as the hungriest


def test_online_cells_teachers_and_stretched_cells_are_alone_and_the_plan_says_why(
    expansion: Expansion, store: Path
) -> None:
    found = together(expansion, store, Room(64))
    others = [size for (regime, label, _), size in found.items() if regime != "offline" or "stretch" in label]
    assert len(others) == 7 and set(others) == {1}
    made = make_plan(expansion, Store(store), 1, room=Room(64)).as_json()
    told = {(row["regime"], row["label"]): (row["together"], row["why_alone"]) for row in made["cells"]}
    assert told["offline", "kd"] == (5, None) and told["online", "dml"] == (1, None)
    assert told["offline", "none (stretch=2)"] == (1, "it trains longer than its protocol says")


def test_seeds_and_benchmark_settings_are_not_mixed(expansion: Expansion, store: Path) -> None:
    groups = make_plan(expansion, Store(store), 1, room=Room(64)).groups
    offline = [row for row in expansion.rows if row.cell.regime == "offline" and row.cell.stretch is None]
    members = groups.gather(offline[0], offline[1:], LARGEST)
    assert [member.cell.method_name for member in members] == ["none", "kd", "dkd", "at", "dist"]
    assert {member.cell.seed for member in members} == {0}


def test_no_group_is_larger_than_its_locks_can_be_passed_on(expansion: Expansion) -> None:
    (cell, *_) = expansion.rows
    copies = [PlannedCell(cell.cell.model_copy(update={"seed": n}), cell.protocol, "x", "y") for n in range(100)]
    keys = dict.fromkeys((copy.id for copy in copies), ("one",))
    peaks = dict.fromkeys(keys, 0.1)
    assert len(Groups(Room(None, 1e6), keys, peaks=peaks).gather(copies[0], copies[1:], 100)) == LARGEST


def test_the_plan_tells_groups_where_there_are_any(write_suite: Callable[[str], Path], store: Path) -> None:
    file = write_suite(MANY)
    told = adm("plan", file, "--store", store, "--group", "5", "--workers", "1", "--device", "cpu").out
    rows = [" ".join(line.split()) for line in told.splitlines()]
    assert "kd resnet20 > resnet8 0 1 to do unknown 5 no record; its teacher is trained first" in rows
    assert any("alone: it trains longer than its protocol says" in row for row in rows)
    alone = adm("plan", file, "--store", store, "--group", "1", "--workers", "1", "--device", "cpu").out
    assert "together" not in alone and "alone:" not in alone
