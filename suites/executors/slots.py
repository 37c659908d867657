"""The places of this machine on which workers can run: CPU cores, or GPUs by their UUID."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from adm_core.errors import AdmError
from suites.worker.entry import THREADS

_DRIVER = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class Slot:
    """A place for one worker.

    Attributes:
        name: for people.
        environment: variables that tie a worker to the place.
    """

    name: str
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        """Whether a worker may see a GPU: wherever they are not hidden from it."""
        return self.environment.get("CUDA_VISIBLE_DEVICES") != ""


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpus() -> list[str]:
    """UUIDs of the GPUs, or of their partitions; those of ``CUDA_VISIBLE_DEVICES`` where it is set."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name.strip() for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []  # a driver that does not answer is a machine without GPUs
    return uuids(listing)


def expected(device: str, workers: int | None = None) -> int:
    """How many slots there will be, for plans: as :func:`slots`, without asking the driver."""
    if workers is not None or device == "cpu":
        return workers or cores()
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return len(gpus()) or cores()
    return len(list(_DRIVER.glob("*"))) or cores()


def uuids(listing: str) -> list[str]:
    """UUIDs in the output of ``nvidia-smi -L``; the partitions of a GPU stand for it where it has any."""
    found: list[str] = []
    whole: str | None = None
    for line in listing.splitlines():
        if match := re.search(r"UUID: (GPU-[0-9a-fA-F-]+)", line):
            whole = match[1]
            found.append(whole)
        elif match := re.search(r"UUID: (MIG-[^)\s]+)", line):
            if whole in found:
                found.remove(whole)
            found.append(match[1])
    return found


def slots(device: str, workers: int | None = None) -> list[Slot]:
    """Where workers run.

    Args:
        device: ``cpu``; ``cuda``; ``auto`` takes GPUs where there are any.
        workers: how many; default: one per GPU, or one per core.

    Raises:
        AdmError: ``cuda`` where there is no GPU, or fewer than one worker.
    """
    if workers is not None and workers < 1:
        raise AdmError(f"--workers {workers}: at least 1")
    devices = [] if device == "cpu" else gpus()
    if device == "cuda" and not devices:
        raise AdmError("--device cuda: nvidia-smi shows no GPU here; use --device cpu")
    if devices:
        count = workers or len(devices)
        threads = str(max(1, cores() // count))
        chosen = [i % len(devices) for i in range(count)]
        return [Slot(f"GPU {i}", {"CUDA_VISIBLE_DEVICES": devices[i], "OMP_NUM_THREADS": threads}) for i in chosen]
    one_thread = dict.fromkeys(THREADS, "1")
    return [Slot(f"CPU {i}", {"CUDA_VISIBLE_DEVICES": "", **one_thread}) for i in range(workers or cores())]
