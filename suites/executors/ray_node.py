"""What a task of Ray does on its node: the local executor on one slot."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import time
from typing import Any

from adm_core.cpu import cores
from suites.executors.base import Ending, Job
from suites.executors.local import LocalExecutor
from suites.executors.slots import Slot, slots

_POLL_SECONDS = 0.1


def train(
    job: Job, executor: type[LocalExecutor], device: str, per_gpu: int, gpus_per_cell: int, timeout: float | None
) -> Ending:
    """Train a job on the node on which this is called, until it has ended.

    An interrupt, by which Ray cancels a task, has the worker keep a checkpoint and end.

    Args:
        job: whose work folders this node sees under the same path.
        executor: what trains it.
        device: ``cuda`` or ``cpu``.
        per_gpu: how many jobs share a GPU.
        gpus_per_cell: how many GPUs a job has, or CPUs.
        timeout: seconds for each cell; None: never.
    """
    asked = list[bool]()
    place = _place(executor, device, per_gpu, gpus_per_cell, timeout, os.environ.get("CUDA_VISIBLE_DEVICES"))
    before = signal.signal(signal.SIGINT, lambda *_: asked.append(True))
    try:
        handle = place.start(job)
        while (ending := place.poll(handle)) is None:
            if asked and not place.ask_to_stop(handle):
                place.kill(handle)
            asked.clear()
            time.sleep(_POLL_SECONDS)
    finally:
        signal.signal(signal.SIGINT, before)
    return ending


@functools.cache
def _place(
    executor: type[LocalExecutor],
    device: str,
    per_gpu: int,
    gpus_per_cell: int,
    timeout: float | None,
    _visible: str | None,
) -> LocalExecutor:
    """One slot on this node, on the GPUs that Ray has assigned; kept for later jobs, with what it has imported."""
    if device == "cpu":
        return executor(slots("cpu", 1, gpus_per_cell=gpus_per_cell), timeout)
    slot = slots("cuda", per_gpu=per_gpu if per_gpu > 1 else None, gpus_per_cell=gpus_per_cell)[0]
    ray: Any = importlib.import_module("ray")
    here = ray.get_runtime_context().get_node_id()
    own = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == here)
    share = max(1, int(cores() // (own["GPU"] * per_gpu)))
    return executor([Slot(slot.name, {**slot.environment, "OMP_NUM_THREADS": str(share)})], timeout)
