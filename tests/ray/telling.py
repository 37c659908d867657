"""A worker that trains nothing and leaves what its environment says of the place where it runs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from suites.executors.base import Job
from suites.executors.local import LocalExecutor
from suites.executors.ray import RayExecutor
from suites.executors.slots import Slot

TOLD = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "PYTORCH_ALLOC_CONF")
NVML = """
from types import SimpleNamespace as of

class NVMLError(Exception): ...
class NVMLError_NotSupported(NVMLError): ...

def nvmlDeviceGetMigMode(_): raise NVMLError_NotSupported
nvmlInit = nvmlShutdown = lambda: None
nvmlDeviceGetCount = lambda: 4
nvmlDeviceGetHandleByIndex = int
nvmlDeviceGetName = lambda _: "a GPU"
nvmlDeviceGetMemoryInfo = lambda _: of(total=2**34)
nvmlDeviceGetUUID = "GPU-{}".format
"""
"""NVIDIA's library on a machine of four GPUs, as a module ``pynvml``."""


class TellingLocal(LocalExecutor):
    """Runs this module."""

    worker = "tests.ray.telling"

    def preloaded(self, job: Job, slot: Slot) -> tuple[str, ...]:
        return ()


class TellingRay(RayExecutor):
    """Runs this module on nodes."""

    name = "ray-telling"
    on_node = TellingLocal


if __name__ == "__main__":
    told = {name: os.environ.get(name) for name in TOLD}
    Path(sys.argv[1], "outcome.json").write_text(json.dumps(told))
