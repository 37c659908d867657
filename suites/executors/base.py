"""The interfaces that executors share.

An :class:`Executor` has slots, on which a run that stays starts, polls and kills jobs. A :class:`Queue` is a cluster's:
jobs are submitted and left, and each of them is such a run on its own node.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
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
        lock: descriptor of the cell's lock, which the worker inherits; None: it is held on another machine.
    """

    folder: WorkFolder
    lock: int | None


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
        gpus_per_cell: how many GPUs each job has, or cores where cells are trained on CPUs.
    """

    device: str = "auto"
    workers: int | None = None
    per_gpu: int | None = None
    timeout: float | None = None
    gpus_per_cell: int = 1


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

    def memory(self, device: str) -> float | None:
        """MiB that each worker may take; None: it is not known, and groups are small.

        Args:
            device: ``auto``, ``cpu`` or ``cuda``.
        """
        return None

    @abstractmethod
    def close(self) -> None:
        """Give up what is kept between jobs, once none runs; a later :meth:`start` makes it anew."""


@dataclass(frozen=True)
class QueuedJob:
    """What a queue says of one job.

    Attributes:
        id: by which the queue's own commands know it.
        state: in the queue's words, such as ``PENDING``.
        ended: whether it neither waits nor runs (any more).
        cancelled: whether somebody ended it on purpose.
        node: where it runs or ran; empty: nowhere yet.
        reason: why it waits; empty where the queue does not say.
    """

    id: str
    state: str
    ended: bool
    cancelled: bool = False
    node: str = ""
    reason: str = ""

    def __str__(self) -> str:
        told = f" on {self.node}" if self.node else f" ({self.reason})" if self.reason else ""
        return f"job {self.id} {self.state}{told}"


class Queue(ABC):
    """A cluster's queue: jobs are submitted by name, and looked up by name and number.

    Attributes:
        name: what ``adm run --executor`` calls it.
        about: one line for ``adm list executors``.
        module: what a job runs: ``python -m MODULE STORE SUBMISSION ARRAY NUMBER``.
        patience: least seconds between two looks at the queue, which many sites limit.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    module: ClassVar[str] = "suites.run.job"
    patience: ClassVar[float] = 30.0

    @classmethod
    @abstractmethod
    def from_options(cls, options: str | None) -> Self:
        """A queue as the command line asks for it.

        Args:
            options: what jobs ask the cluster for, in its own words; None: the cluster's defaults.

        Raises:
            AdmError: there is no such cluster here, or the options cannot be given.
        """

    @abstractmethod
    def largest(self) -> int:
        """How many jobs can be submitted at once."""

    @abstractmethod
    def submit(self, name: str, command: Sequence[str], count: int, log: str, after: str | None = None) -> list[str]:
        """Submit jobs that run a command, each with its number from 0 as one argument more.

        Args:
            name: of all of them, by which :meth:`jobs` tells them.
            command: the arguments of this Python, such as ``-m MODULE``.
            count: how many.
            log: file for what they print, ``{}`` standing for the number.
            after: id of a job that must have ended, however, before any of them begins.

        Returns:
            The id of each.

        Raises:
            AdmError: the queue refuses.
        """

    @abstractmethod
    def jobs(self) -> Mapping[tuple[str, int], QueuedJob]:
        """This user's jobs by name and number: those that wait or run, and those that the queue still remembers.

        Raises:
            AdmError: the queue does not answer.
        """

    def recall(self, name: str) -> Mapping[tuple[str, int], QueuedJob]:
        """The jobs of a name that :meth:`jobs` no longer tells, by the cluster's accounts; none where it keeps none."""
        return {}

    @abstractmethod
    def cancel(self, ids: Iterable[str]) -> None:
        """End jobs, or take them out of the queue; they are not started again."""

    @abstractmethod
    def requeue(self) -> None:
        """Have the job in which this process is started again from the beginning, some time later."""
