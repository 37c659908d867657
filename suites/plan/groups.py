"""Which cells one worker trains together on one frozen teacher, and how many: as many as are asked for, or as fit."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from suites.spec.expand import PlannedCell
from suites.spec.grouping import group_key, why_alone

LARGEST = 64
"""Cells in one group at most: a worker inherits a lock of each in one message, which carries some 250."""
CAREFUL = 4
"""Cells in one group where it is not known what they or the device hold."""


@dataclass(frozen=True)
class Room:
    """How many cells a worker may train at once.

    Attributes:
        most: as the command line says; None: as many as fit.
        memory_mb: what one worker may take, in MiB; None: unknown.
    """

    most: int | None = None
    memory_mb: float | None = None


ALONE = Room(most=1)
"""Every cell by a worker of its own."""


@dataclass(frozen=True)
class Groups:
    """Forms groups of cells.

    Attributes:
        room: how many cells a group may have.
        keys: cell id to what cells must share to be trained together; None: it is trained alone.
        reasons: cell id to why a cell is trained alone, where its regime does not say it already.
        peaks: cell id to what the cell's training is known to take, in MiB.
    """

    room: Room = ALONE
    keys: Mapping[str, tuple[object, ...] | None] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    peaks: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, room: Room, cells: Sequence[PlannedCell], peak: Callable[[PlannedCell], float | None]) -> Groups:
        """Those of some cells.

        Args:
            room: how many cells a group may have.
            cells: all that may be trained.
            peak: what a cell is known to take, in MiB.
        """
        if room.most == 1:
            return cls(room)
        keys = {planned.id: group_key(planned) for planned in cells}
        reasons = {c.id: why_alone(c) for c in cells if keys[c.id] is None and c.cell.regime == "offline"}
        known = {planned.id: peak(planned) for planned in cells if keys[planned.id] is not None}
        return cls(room, keys, reasons, {cell: found for cell, found in known.items() if found is not None})

    def gather(
        self,
        first: PlannedCell,
        others: Iterable[PlannedCell],
        most: int,
        take: Callable[[PlannedCell], bool] = lambda _: True,
    ) -> list[PlannedCell]:
        """A cell and those of others that are trained with it, in their order.

        Args:
            first: of the group.
            others: that wait; those of another kind are passed over.
            most: cells that the group may have.
            take: is asked for each of the others that would join, and says whether it does.
        """
        members, key = [first], self.keys.get(first.id)
        for other in others if key is not None else ():
            if len(members) >= most:
                break
            if self.keys.get(other.id) == key and self._fit([*members, other]) and take(other):
                members.append(other)
        return members

    def sizes(self, waiting: Sequence[PlannedCell], slots: int) -> dict[str, int]:
        """Cell id to how many cells its group will have, itself included, if all slots become free at once."""
        found: dict[str, int] = {}
        left = {planned.id: planned for planned in waiting}
        alike: dict[tuple[object, ...] | None, dict[str, PlannedCell]] = defaultdict(dict)
        for planned in waiting:
            alike[self.keys.get(planned.id)][planned.id] = planned
        while left:
            most = share(len(left), slots)
            for _ in range(min(slots, len(left))):
                first = next(iter(left.values()), None)
                if first is None:
                    break
                kin = alike[self.keys.get(first.id)]
                del kin[first.id]
                members = self.gather(first, kin.values(), most)
                for member in members:
                    found[member.id] = len(members)
                    kin.pop(member.id, None)
                    del left[member.id]
        return found

    def _fit(self, members: Sequence[PlannedCell]) -> bool:
        """Whether some cells fit into one worker; one always does."""
        count, each = len(members), [self.peaks.get(member.id) for member in members]
        if self.room.most is not None or count == 1:
            return count <= min(self.room.most or count, LARGEST)
        known = [peak for peak in each if peak is not None]
        if self.room.memory_mb is None or len(known) < count:
            return count <= CAREFUL
        return count <= LARGEST and sum(known) <= self.room.memory_mb


def share(waiting: int, slots: int) -> int:
    """How many of some waiting cells one slot may take, so that all slots have work."""
    return max(math.ceil(waiting / slots), 1)


def in_order(cells: Iterable[PlannedCell]) -> list[PlannedCell]:
    """Cells as they are trained: teachers first, then one seed of everything before the next seed.

    A table that is stopped early compares all methods.
    """
    return sorted(cells, key=lambda planned: (planned.cell.regime != "alone", planned.cell.seed))
