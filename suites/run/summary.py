"""What is told about a run while it goes on, and what is left to tell when it is over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from suites.plan.plan import DONE
from suites.spec.expand import PlannedCell
from suites.work.folder import WorkFolder


class Display(Protocol):
    """What is told about a run while it goes on."""

    def started(self, planned: PlannedCell, folder: WorkFolder, together: int = 1) -> None:
        """A cell's training began; its worker trains so many cells, itself included."""

    def ended(self, planned: PlannedCell, status: str, reason: str | None, seconds: float) -> None:
        """An attempt at a cell ended, or the cell was settled without one; status ``retry``: it is tried again."""


@dataclass
class Summary:
    """What became of a run.

    Attributes:
        statuses: cell id to the status of its record, as far as the run came.
        interrupted: it was stopped by a signal.
    """

    statuses: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def failed(self) -> list[str]:
        """Ids of the cells that are not done."""
        return [cell for cell, status in self.statuses.items() if status not in DONE]

    @property
    def exit_code(self) -> int:
        """0: all done; 1: some cells failed; 130: interrupted."""
        return 130 if self.interrupted else int(bool(self.failed))
