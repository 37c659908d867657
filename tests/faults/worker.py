"""``python -m tests.faults.worker WORKDIR ...``: ``suites.worker``, which notes every step that it has taken.

``STORE/steps/CELL/`` gets one file per process, with a line for each step: the time, as ``time.monotonic`` tells it,
and the number of the step; and a last one, ``ended STATUS``, once the outcome is safe on disk.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from adm_core.batch import Batch
from adm_core.pace import Pace
from adm_core.progress import Trained
from adm_core.show import Shown
from adm_core.train import Trainer
from suites.work.folder import WorkFolder
from suites.worker import training
from suites.worker.entry import main
from suites.worker.stopping import heed_requests

CHECKPOINT_SECONDS = 0.25
"""Time between two checkpoints: trainings last seconds here."""


class NotedTrainer(Trainer):
    """The trainer, with checkpoints in short intervals, each of whose steps is noted; those after training are not."""

    over = False

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.pace = Pace(CHECKPOINT_SECONDS)
        self.pace.share = 1.0  # at intervals as short as these checkpoints take more than they may elsewhere

    def step(self, batch: Batch, shown: Sequence[Shown] = ()) -> None:
        """One step, and its line."""
        super().step(batch, shown)
        if not self.over and self.file is not None:
            note(self.file.parent, str(self.progress.step))

    def trained(self) -> Trained:
        """Training is over."""
        self.over = True
        return super().trained()


class NotedFolder(WorkFolder):
    """The work folder of a cell, whose outcome is noted."""

    def conclude(self, outcome: dict[str, Any]) -> None:
        """The outcome, and its line."""
        super().conclude(outcome)
        note(self.path, f"ended {outcome['status']}")


def note(folder: Path, word: str) -> None:
    """Append a line to this process's file of a cell, in one write; one that a kill cuts off has no end of line."""
    os.write(_notes(folder), f"{time.monotonic():.4f} {word}\n".encode())


@functools.cache
def _notes(folder: Path) -> int:
    file = folder.parents[1] / "steps" / folder.name / f"{time.monotonic():.6f}-{os.getpid()}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)


if __name__ == "__main__":
    heed_requests()
    with patch.object(training, "Trainer", NotedTrainer), patch("suites.worker.entry.WorkFolder", NotedFolder):
        sys.exit(main())
