"""Cells trained by child processes of their own, on CPU cores or GPUs of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from suites.executors.base import Ending, Executor, Handle, Job
from suites.executors.memory import memory_kills
from suites.executors.slots import Slot

_ROOT = Path(__file__).resolve().parents[2]


@dataclass
class _Child(Handle):
    job: Job
    slot: Slot
    process: subprocess.Popen[bytes] | None
    started: float
    kills_before: int
    problem: str = ""
    timed_out: bool = False
    stopped: bool = False


class LocalExecutor(Executor):
    """A child process per cell, in a process group of its own, so that all it starts can be ended with it.

    Args:
        slots: where workers run, one at a time on each.
        timeout: seconds after which a worker is ended; None: never.
        worker: module that is run as the worker.
    """

    def __init__(self, slots: list[Slot], timeout: float | None = None, worker: str = "suites.worker") -> None:
        self.slots = len(slots)
        self._free = list(slots)
        self._timeout = timeout
        self._worker = worker

    def start(self, job: Job) -> Handle:
        """Start a worker on a free slot. One that cannot be started has ended with code None."""
        slot = self._free.pop(0)
        child = _Child(job, slot, None, time.monotonic(), memory_kills())
        arguments = [str(job.folder.path.resolve()), "--parent", str(os.getpid())]
        try:
            with job.folder.log.open("ab") as log:
                child.process = subprocess.Popen(
                    [sys.executable, "-P", "-m", self._worker, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=_environment(slot),
                    pass_fds=(job.lock,),
                    start_new_session=True,
                )
        except OSError as error:
            child.problem = f"the worker could not be started: {error}"
        return child

    def poll(self, handle: Handle) -> Ending | None:
        """How the worker ended, or None while it runs within its time."""
        assert isinstance(handle, _Child)
        seconds = time.monotonic() - handle.started
        if handle.process is None:
            self._free.append(handle.slot)
            return Ending(None, seconds, message=handle.problem)
        if not _has_ended(handle.process):
            if self._timeout is None or seconds <= self._timeout:
                return None
            handle.timed_out = True
        code = _end(handle.process)  # with whatever the worker started and left behind
        self._free.append(handle.slot)
        killed_for_memory = code == -signal.SIGKILL and memory_kills() > handle.kills_before
        return Ending(code, seconds, handle.timed_out, handle.stopped, killed_for_memory and not handle.stopped)

    def kill(self, handle: Handle) -> None:
        """End the worker and all it started."""
        assert isinstance(handle, _Child)
        if handle.process is not None and not _has_ended(handle.process):
            handle.stopped = True
            _end(handle.process)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a child has ended, leaving it unreaped: until it is, its group's number cannot be given to others."""
    if process.returncode is not None:
        return True
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(process: subprocess.Popen[bytes]) -> int:
    """Kill what is left of a child's group and tell how the child itself ended."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: a group of zombies cannot be signalled
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _environment(slot: Slot) -> dict[str, str]:
    path = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"} | slot.environment
