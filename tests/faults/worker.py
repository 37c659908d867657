"""``python -m tests.faults.worker WORKDIR``: ``suites.worker``, which notes every step that it has taken.

``STORE/steps/CELL/`` gets one file per process, with a line for each step: the time, as ``time.monotonic`` tells it,
and the number of the step; and a last one, ``ended STATUS``, once the outcome is safe on disk.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from adm_core.batch import Batch
from adm_core.progress import Trained
from adm_core.recipe import Protocol
from adm_core.train import Trainer
from results.records.schema import Cell
from suites.work.folder import WorkFolder
from suites.work.options import RunOptions
from suites.worker import training
from suites.worker.entry import main
from suites.worker.stopping import heed_requests

CHECKPOINT_SECONDS = 0.25
"""Time between two checkpoints: trainings last seconds here."""


class NotedTrainer(Trainer):
    """The trainer, each of whose steps is noted once it has been taken; those after training, to count, are not."""

    over = False

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.pace.share = 1.0  # at the short intervals of these tests checkpoints take more than they may elsewhere

    def step(self, batch: Batch) -> None:
        """One step, and its line."""
        super().step(batch)
        if not self.over:
            note(str(self.progress.step))

    def trained(self) -> Trained:
        """Training is over."""
        self.over = True
        return super().trained()


def train(
    cell: Cell, protocol: Protocol, work: Path, options: RunOptions, report: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Train the cell as any worker does, with checkpoints in short intervals."""
    frequent = options.model_copy(update={"checkpoint_seconds": CHECKPOINT_SECONDS})
    with patch.object(training, "Trainer", NotedTrainer):
        return training.train_cell(cell, protocol, work, frequent, report)


def note(word: str) -> None:
    """Append a line to this process's file, in one write; what a kill cuts off is told by the missing end of line."""
    os.write(notes, f"{time.monotonic():.4f} {word}\n".encode())


if __name__ == "__main__":
    heed_requests()
    folder = WorkFolder(Path(sys.argv[1]))
    file = folder.path.parents[1] / "steps" / folder.path.name / f"{time.monotonic():.6f}-{os.getpid()}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    notes = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    code = main(train=train)
    if outcome := folder.outcome():
        note(f"ended {outcome['status']}")
    sys.exit(code)
