"""Cells trained in this very process, one after the other; for debugging and for machines without processes."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Self

from adm_core.errors import AdmError
from suites.executors.base import Ending, Executor, ExecutorOptions, Handle, Job
from suites.executors.registry import register
from suites.worker.entry import Train, run_cell


@dataclass(frozen=True)
class _Done(Handle):
    job: Job
    ending: Ending


@register
class InlineExecutor(Executor):
    """One slot; a crash of the interpreter or a kill for lack of memory takes the runner with it.

    Args:
        train: what trains a cell; default: :func:`suites.worker.training.train_cell`.
    """

    name = "inline"
    about = "one cell after the other in this process, for debugging"
    slots = 1
    blocking = True

    def __init__(self, train: Train | None = None) -> None:
        self._train = train

    @classmethod
    def from_options(cls, options: ExecutorOptions) -> Self:
        """One slot in this process.

        Raises:
            AdmError: several workers, in all, on a GPU or for a cell, or a timeout.
        """
        if options.timeout is not None:
            raise AdmError("--timeout needs --executor local: a cell in this process cannot be ended from outside")
        for option, count in {"--workers": options.workers, "--per-gpu": options.per_gpu}.items():
            if count not in (None, 1):
                raise AdmError(f"{option} {count} needs --executor local: inline trains one cell at a time")
        if options.gpus_per_cell > 1:
            told = f"--gpus-per-cell {options.gpus_per_cell}"
            raise AdmError(f"{told} needs --executor local: inline trains in this process alone")
        return cls()

    def start(self, job: Job) -> Handle:
        """Train the cell now. An interrupt ends it and is told by :meth:`poll`."""
        started = time.monotonic()
        code, stopped = 0, False
        (cell,) = job.members
        opened = job.log.open("a", encoding="utf-8", errors="backslashreplace")
        with opened as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            try:
                run_cell(cell.folder, self._train)
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
