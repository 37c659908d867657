"""Cells trained on the nodes of a running Ray cluster: a job is a task of Ray, whose body is the local executor.

The run stays, as with the local executor; store, data and this code lie where every node finds them under one path.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from adm_core.errors import AdmError
from suites.executors.base import Ending, Executor, ExecutorOptions, Handle, Job
from suites.executors.local import LocalExecutor
from suites.executors.ray_node import train
from suites.executors.registry import register

_ROOT = Path(__file__).resolve().parents[2]
_ANSWER_SECONDS = 10.0
_KILL_SECONDS = 5.0
"""How long Ray may take to end a task."""
_UNSEEN_SECONDS = 90.0
"""How long a shared file system may take to show a file that another machine wrote."""
_PARTS = 10_000
"""Ray divides a GPU into so many parts."""


@dataclass
class _Task(Handle):
    job: Job
    reference: Any
    since: float
    stopped: bool = False
    killed: bool = False
    ended: float = math.inf


@register
class RayExecutor(Executor):
    """A task of Ray for each job, which claims GPUs, a share of one, or CPUs.

    Args:
        device: ``cuda`` or ``cpu``.
        count: how many jobs at once; those for which the cluster has no room wait in Ray.
        per_gpu: how many at once on each GPU.
        gpus_per_cell: how many GPUs each has, or CPUs.
        timeout: seconds for each cell of a job, from when its node begins with it; None: never.
        joined: whether this process is a driver of the cluster only for this.

    Attributes:
        on_node: what trains a job on its node.
    """

    name = "ray"
    about = "a process per cell, on the CPUs or GPUs of a running Ray cluster"
    takes_groups = True
    on_node: ClassVar[type[LocalExecutor]] = LocalExecutor

    def __init__(
        self,
        device: str,
        count: int,
        per_gpu: int = 1,
        gpus_per_cell: int = 1,
        timeout: float | None = None,
        joined: bool = False,
    ) -> None:
        self._ray, self._joined, self.slots = _package(), joined, count
        self._terms = (self.on_node, device, per_gpu, gpus_per_cell, timeout)
        # A share is rounded down, or the last of them would not fit.
        gpu = gpus_per_cell * math.floor(_PARTS / per_gpu) / _PARTS if device == "cuda" else 0
        path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._options = {
            "num_gpus": gpu,
            "num_cpus": 0 if gpu else gpus_per_cell,
            "max_retries": 0,  # what is lost is tried again by the run, which counts attempts
            "max_calls": 0,  # Ray keeps the process for the next job, and what was imported with it
            "runtime_env": {"env_vars": {"PYTHONPATH": path}},
        }

    @classmethod
    def from_options(cls, options: ExecutorOptions) -> Self:
        """As many jobs at once as asked for, or as the cluster has GPUs, shares of GPUs, or CPUs.

        Raises:
            AdmError: Ray is not installed, no cluster answers, or it has nothing of what is asked for.
        """
        ray = _package()
        joined, has = _join(ray), ray.cluster_resources()
        device = "cuda" if options.device == "cuda" or (options.device == "auto" and has.get("GPU")) else "cpu"
        if options.per_gpu and device == "cpu":
            raise AdmError(f"--per-gpu {options.per_gpu}: cells are trained on the cluster's CPUs; use --workers")
        kind, per_gpu, each = ("GPU" if device == "cuda" else "CPU"), options.per_gpu or 1, options.gpus_per_cell
        if options.per_gpu and each > 1:
            raise AdmError(f"--per-gpu {per_gpu} and --gpus-per-cell {each}: give one of them")
        own = [int(node["Resources"].get(kind, 0)) for node in ray.nodes() if node["Alive"]] if each > 1 else []
        count = options.workers or (sum(n // each for n in own) if each > 1 else int(has.get(kind, 0) * per_gpu))
        if not count:
            lacking = f"no {kind}" if each == 1 else f"no node with {each} {kind}s"
            raise AdmError(
                f"--executor ray: the cluster has {lacking} ('ray status' shows what it has); start a node that has "
                "one, or say with --workers how many cells are to wait for nodes that an autoscaler starts"
            )
        return cls(device, count, per_gpu, each, options.timeout, joined)

    def start(self, job: Job) -> Handle:
        """Hand a job to Ray, which starts it once a node has room."""
        self._joined |= _join(self._ray)
        # The locks are descriptors of this process.
        sent = replace(job, members=tuple(replace(member, lock=None) for member in job.members))
        remote = self._ray.remote(**self._options)(train)
        return _Task(job, remote.remote(sent, *self._terms), time.monotonic())

    def poll(self, handle: Handle) -> Ending | None:
        """How the job ended, by its node or because that was lost; None while it waits or runs."""
        assert isinstance(handle, _Task)
        seconds, errors = time.monotonic() - handle.since, self._ray.exceptions
        if not self._ray.wait([handle.reference], timeout=_KILL_SECONDS if handle.killed else 0)[0]:
            return Ending(None, seconds, stopped=True) if handle.killed else None
        try:
            ending: Ending = self._ray.get(handle.reference)
        except errors.OutOfMemoryError:
            return Ending(None, seconds, stopped=handle.stopped, out_of_memory=not handle.stopped)
        except errors.RayError as error:
            return Ending(None, seconds, stopped=handle.stopped, message=_reason(error))
        handle.ended = min(handle.ended, seconds)
        if _outcome_is_unseen(handle.job, ending) and seconds - handle.ended < _UNSEEN_SECONDS:
            return None
        return replace(ending, stopped=ending.stopped or handle.stopped)

    def ask_to_stop(self, handle: Handle) -> bool:
        """Have Ray interrupt the task, which has its worker keep a checkpoint; one that still waits is taken back."""
        assert isinstance(handle, _Task)
        handle.stopped = True
        self._ray.cancel(handle.reference)
        return True

    def kill(self, handle: Handle) -> None:
        """Have Ray kill the task's process, with which the worker ends."""
        assert isinstance(handle, _Task)
        handle.stopped = handle.killed = True
        self._ray.cancel(handle.reference, force=True)

    def close(self) -> None:
        """Leave the cluster, which goes on, unless this process had joined it before."""
        if self._joined:
            self._ray.shutdown()
            self._joined = False


def _outcome_is_unseen(job: Job, ending: Ending) -> bool:
    """Whether a worker ended in order, so that it left an outcome, which cannot be seen here yet."""
    return ending.code == 0 and not ending.stopped and len(job.members) == 1 and not job.members[0].folder.outcome()


def _reason(error: Exception) -> str:
    """What became of a task that did not end by itself, without names of machines."""
    cause = getattr(error, "cause", None)
    if cause is not None:
        return f"its node could not begin with it: {type(cause).__name__}: {cause}"
    return f"lost with its node, or with Ray's process on it ({type(error).__name__})"


def _package() -> Any:
    """The package ray.

    Raises:
        AdmError: it is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise AdmError("--executor ray needs the package ray: pip install 'adm-bench[ray]'") from error


def _join(ray: Any) -> bool:
    """Join the cluster as a driver; whether this process had not done so before.

    Raises:
        AdmError: no cluster answers.
    """
    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS") or "auto"
    try:
        if address != "auto":  # Ray would try for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), _ANSWER_SECONDS).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        at = "here" if address == "auto" else f"at RAY_ADDRESS={address}"
        raise AdmError(
            f"--executor ray: no Ray cluster can be joined {at}: {' '.join(str(error).split())}; run this on a machine "
            "of the cluster ('ray start --address=HEAD:6379' makes this one of them), or start one: 'ray start --head'"
        ) from error
    return True
