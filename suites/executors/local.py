"""Cells trained by processes of their own, on CPU cores or GPUs of this machine."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import IO, ClassVar, Self

from adm_core.kernels import Kernels
from suites.executors.base import Ending, Executor, ExecutorOptions, Handle, Job
from suites.executors.memory import memory_kills, worker_memory
from suites.executors.nursery import Nursery
from suites.executors.registry import register
from suites.executors.slots import Slot, slots


@dataclass
class _Worker(Handle):
    job: Job
    slot: Slot
    started: float
    kills_before: int
    nursery: Nursery | None = None
    process: int = 0
    code: int | None = None
    problem: str = ""
    timed_out: bool = False
    stopped: bool = False

    @property
    def is_waiting(self) -> bool:
        """Whether its process is to be started as soon as the nursery is ready."""
        return self.nursery is not None and not self.process

    def has_ended(self) -> bool:
        """Whether there is nothing to wait for (any more)."""
        if self.nursery is None or self.code is not None:
            return True
        return bool(self.process) and self.nursery.has_ended(self.process)

    def end(self) -> None:
        """End the worker and all it started, if it was started; how it ended is then its code."""
        if self.is_waiting:
            self.nursery = None
        elif self.nursery is not None and self.code is None:
            self.code = self.nursery.end(self.process)


@register
class LocalExecutor(Executor):
    """A process per cell or group of cells, in a process group of its own, so that all it starts can be ended with it.

    Args:
        slots: where workers run, one at a time on each.
        timeout: seconds for each cell of a worker, after which it is ended; None: never.

    Attributes:
        worker: module that is run as the worker, with the work folders as its arguments.
    """

    name = "local"
    about = "a process per cell, on the CPU cores or GPUs of this machine"
    takes_groups = True
    worker: ClassVar[str] = "suites.worker"

    def __init__(self, slots: list[Slot], timeout: float | None = None) -> None:
        self.slots = len(slots)
        self._free = list(slots)
        self._timeout = timeout
        self._nurseries: dict[tuple[tuple[str, ...], Kernels], Nursery] = {}

    @classmethod
    def from_options(cls, options: ExecutorOptions) -> Self:
        """As many slots as asked for, or one per GPU or core.

        Raises:
            AdmError: what :func:`suites.executors.slots.slots` refuses.
        """
        places = slots(options.device, options.workers, options.per_gpu, options.gpus_per_cell)
        return cls(places, options.timeout)

    def start(self, job: Job) -> Handle:
        """Have a worker started on a free slot, which :meth:`poll` does where what it needs is still being imported.

        One that cannot be started has ended with code None.
        """
        slot = self._free.pop(0)
        worker = _Worker(job, slot, time.monotonic(), memory_kills())
        try:
            with job.log.open("ab") as log:
                worker.nursery = self._nursery(self.preloaded(job, slot), job.kernels, slot, log)
        except OSError as error:
            worker.problem = f"the worker could not be started: {error}"
        self._launch(worker)
        return worker

    def _launch(self, worker: _Worker) -> None:
        """Start the process of a worker that waits for one, if its nursery is ready."""
        job, nursery = worker.job, worker.nursery
        try:
            if nursery is not None and not worker.process and nursery.ready:
                locks = [member.lock for member in job.members if member.lock is not None]
                with job.log.open("ab") as log:
                    worker.process = nursery.start(self.worker, job.arguments, worker.slot.environment, log, locks)
        except OSError as error:
            worker.nursery, worker.problem = None, f"the worker could not be started: {error}"

    def poll(self, handle: Handle) -> Ending | None:
        """How the worker ended, or None while it runs within its time."""
        assert isinstance(handle, _Worker)
        self._launch(handle)
        seconds = time.monotonic() - handle.started
        if not handle.has_ended():
            if self._timeout is None or seconds <= self._timeout * len(handle.job.members):
                return None
            handle.timed_out = True
        handle.end()  # with whatever the worker started and left behind
        self._free.append(handle.slot)
        killed_for_memory = handle.code == -signal.SIGKILL and memory_kills() > handle.kills_before
        out_of_memory = killed_for_memory and not handle.stopped
        return Ending(handle.code, seconds, handle.timed_out, handle.stopped, out_of_memory, handle.problem)

    def ask_to_stop(self, handle: Handle) -> bool:
        """Send the worker SIGTERM; one that was not started yet has nothing to keep."""
        assert isinstance(handle, _Worker)
        if handle.is_waiting or handle.has_ended():
            return False
        handle.stopped = True
        os.kill(handle.process, signal.SIGTERM)
        return True

    def kill(self, handle: Handle) -> None:
        """End the worker and all it started."""
        assert isinstance(handle, _Worker)
        if not handle.has_ended():
            handle.stopped = True
            handle.end()

    def memory(self, device: str) -> float | None:
        """An equal share of this machine's, or of its GPUs'."""
        return worker_memory(device, self.slots)

    def close(self) -> None:
        """End the processes from which workers are forked."""
        while self._nurseries:
            self._nurseries.popitem()[1].close()

    def preloaded(self, job: Job, slot: Slot) -> tuple[str, ...]:
        """What the worker would spend its first seconds importing, where it is safe to have that before a fork.

        On GPUs it is not: once CUDA has been touched, a fork can never use it.
        """
        if slot.on_gpu or sys.platform != "linux":
            return ()
        # torch._dynamo: the first optimiser imports it
        return "suites.worker.training", "torch._dynamo", "tasks.datasets.kept", f"tasks.{job.task}.task"

    def _nursery(self, modules: tuple[str, ...], kernels: Kernels, slot: Slot, log: IO[bytes]) -> Nursery:
        """One per task: what another task imports is neither in a worker's memory nor in its measured peak.

        And one per choice of kernels, which a library makes once.
        """
        nursery = self._nurseries.get((modules, kernels))
        if nursery is None or nursery.lost:
            if nursery is not None:
                nursery.close()
            nursery = self._nurseries[modules, kernels] = Nursery(modules, slot.environment, log, kernels)
        return nursery
