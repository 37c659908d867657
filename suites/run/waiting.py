"""The cells that wait to be trained, in their order, and those of them that are started together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from suites.plan.groups import in_order, share
from suites.plan.plan import Plan
from suites.spec.expand import PlannedCell


class Waiting:
    """What a run has still to start.

    Args:
        plan: what is to be trained.
        slots: how many jobs run at once.
    """

    def __init__(self, plan: Plan, slots: int) -> None:
        self._groups, self._slots = plan.groups, slots
        self._cells = {planned.id: planned for planned in in_order(row.planned for row in plan.open)}
        self._order = {cell: place for place, cell in enumerate(self._cells)}
        self._limits: dict[str, int] = {}
        self._elsewhere = {row.planned.id for row in plan.open if row.state == "running"}

    def __bool__(self) -> bool:
        return bool(self._cells)

    def __iter__(self) -> Iterator[PlannedCell]:
        """The cells in order; any may be removed meanwhile, and is then left out."""
        return (planned for planned in list(self._cells.values()) if planned.id in self._cells)

    def remove(self, planned: PlannedCell) -> None:
        """A cell is started, or needs no training."""
        del self._cells[planned.id]
        self._elsewhere.discard(planned.id)

    def clear(self) -> None:
        """Nothing more is to be started."""
        self._cells.clear()

    def put_back(self, planned: PlannedCell, at_most: int) -> None:
        """A cell is tried again, before those that were not tried yet, in a group of so many cells at most."""
        self._limits[planned.id] = at_most
        cells = [planned, *self._cells.values()]
        cells.sort(key=lambda cell: (cell.id not in self._limits, self._order[cell.id]))
        self._cells = {cell.id: cell for cell in cells}

    def is_elsewhere(self, planned: PlannedCell) -> None:
        """Another runner is at a cell, so that it gives none of the slots here work."""
        self._elsewhere.add(planned.id)

    def share(self, ready: Callable[[PlannedCell], bool]) -> int:
        """How many cells one slot may take, so that all slots have work.

        Args:
            ready: whether a cell could be started, as far as its teacher goes.
        """
        return share(sum(ready(cell) for cell in self if cell.id not in self._elsewhere), self._slots)

    def gather(self, first: PlannedCell, most: int, take: Callable[[PlannedCell], bool]) -> list[PlannedCell]:
        """A cell that was removed and those that are started with it.

        Args:
            first: the cell.
            most: how many there may be.
            take: is asked for each of the others, removes it, and says whether it is to be started.
        """
        most = min(most, self._limits.get(first.id, most))
        others = (planned for planned in self if self._limits.get(planned.id, most) >= most)
        return self._groups.gather(first, others, most, take)
