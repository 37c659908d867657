"""The interface that executors share: a number of slots, and jobs that are started, polled and killed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from adm_core.kernels import Kernels
from suites.work.folder import WorkFolder


@dataclass(frozen=True)
class Member:
    """One cell of a job.

    Attributes:
        folder: its work folder, in which ``cell.json`` is written.
        lock: descriptor of the cell's lock, which the worker inherits.
    """

    folder: WorkFolder
    lock: int


@dataclass(frozen=True)
class Job:
    """One attempt at a cell, or at several that one worker trains together.

    Attributes:
        task: of all of them.
        members: the cells, at least one; more only where the executor :attr:`~Executor.takes_groups`.
        kernels: of their recipe; a worker that starts afresh sees to them itself.
    """

    task: str
    members: tuple[Member, ...]
    kernels: Kernels = "portable"

    @property
    def log(self) -> Path:
        """Where the worker prints: the log of the first cell, which those of the others name."""
        return self.members[0].folder.log

    @property
    def arguments(self) -> list[str]:
        """The worker's command line: the work folder of every cell."""
        return [str(member.folder.path.resolve()) for member in self.members]


@dataclass(frozen=True)
class Ending:
    """How a worker ended, as seen from outside; what it achieved stands in ``outcome.json``.

    Attributes:
        code: exit status; negative: the signal that ended it; None: it never started.
        seconds: from start to end.
        timed_out: it was ended because it took too long.
        stopped: it was ended on request.
        out_of_memory: the system reported a process killed for lack of memory meanwhile.
        message: what to add to the reason.
    """

    code: int | None
    seconds: float
    timed_out: bool = False
    stopped: bool = False
    out_of_memory: bool = False
    message: str = ""


@dataclass(frozen=True)
class ExecutorOptions:
    """What ``adm run`` was asked for.

    Attributes:
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: how many jobs at once; None: as many as fit.
        per_gpu: how many jobs at once on each GPU; None: one, or what ``workers`` makes of it.
        timeout: seconds for each cell of a job, after which the job is ended; None: never.
    """

    device: str = "auto"
    workers: int | None = None
    per_gpu: int | None = None
    timeout: float | None = None


class Handle(ABC):
    """A job that was started."""

    job: Job


class Executor(ABC):
    """Runs jobs on a fixed number of slots.

    Attributes:
        name: what ``adm run --executor`` calls it.
        about: one line for ``adm list executors``.
        slots: how many jobs can run at once.
        blocking: whether :meth:`start` returns only when the job has ended.
        takes_groups: whether a job may hold several cells, whose work folders are then all given to the worker.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    slots: int
    blocking: bool = False
    takes_groups: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def from_options(cls, options: ExecutorOptions) -> Self:
        """An executor as the command line asks for it.

        Raises:
            AdmError: it cannot do what is asked.
        """

    @abstractmethod
    def start(self, job: Job) -> Handle:
        """Start a job on a free slot; there must be one."""

    @abstractmethod
    def poll(self, handle: Handle) -> Ending | None:
        """How the job ended, or None while it runs. Ends jobs that have run too long."""

    def ask_to_stop(self, handle: Handle) -> bool:
        """Ask a job to keep a checkpoint and end soon; whether it may do so. If not, it is killed."""
        return False

    @abstractmethod
    def kill(self, handle: Handle) -> None:
        """End a job and everything it started, at once; its ending is then told by :meth:`poll`."""

    @abstractmethod
    def close(self) -> None:
        """Give up what is kept between jobs, once none runs; a later :meth:`start` makes it anew."""
