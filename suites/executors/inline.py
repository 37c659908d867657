"""Cells trained in this very process, one after the other; for debugging and for machines without processes."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from suites.executors.base import Ending, Executor, Handle, Job
from suites.worker.entry import Train, run_cell


@dataclass(frozen=True)
class _Done(Handle):
    job: Job
    ending: Ending


class InlineExecutor(Executor):
    """One slot; a crash of the interpreter or a kill for lack of memory takes the runner with it.

    Args:
        train: what trains a cell; default: :func:`suites.worker.training.train_cell`.
    """

    slots = 1
    blocking = True

    def __init__(self, train: Train | None = None) -> None:
        self._train = train

    def start(self, job: Job) -> Handle:
        """Train the cell now. An interrupt ends it and is told by :meth:`poll`."""
        started = time.monotonic()
        code, stopped = 0, False
        with job.folder.log.open("a") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            try:
                run_cell(job.folder, self._train)
            except KeyboardInterrupt:
                code, stopped = 1, True
        return _Done(job, Ending(code, time.monotonic() - started, stopped=stopped))

    def poll(self, handle: Handle) -> Ending | None:
        """The ending, known since the start."""
        assert isinstance(handle, _Done)
        return handle.ending

    def kill(self, handle: Handle) -> None:
        """Nothing is left to end."""

    def close(self) -> None:
        """Nothing is kept."""
