"""The memory that workers may take, and whether the kernel has been killing processes for lack of it."""

from __future__ import annotations

import math
from pathlib import Path

from suites.executors.gpus import gpus

LEFT_FREE = 0.1
"""Share of the memory that no worker is to count on."""


def worker_memory(device: str, workers: int) -> float | None:
    """MiB that each of some workers may take: of the GPU on which it runs, or else of this machine; None: unknown.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        workers: how many run at once.
    """
    devices = [] if device == "cpu" else gpus()
    if not devices:
        available = available_memory()
        return None if available is None else available / workers * (1 - LEFT_FREE)
    known = [gpu.memory for gpu in devices if gpu.memory is not None]
    if len(known) < len(devices):
        return None
    return min(known) / 2**20 / math.ceil(workers / len(devices)) * (1 - LEFT_FREE)


def available_memory() -> float | None:
    """MiB that this machine, or this control group, has left for new processes; None where the system does not tell."""
    found = [_value(Path("/proc/meminfo"), "MemAvailable:") * 1024] if Path("/proc/meminfo").exists() else []
    folder = _own_group()
    if limit := _value(folder / "memory.max", ""):  # or the word max
        cached = _value(folder / "memory.stat", "file")
        found.append(limit - _value(folder / "memory.current", "") + cached)
    return max(min(found), 0) / 2**20 if found else None


def memory_kills() -> int:
    """How many processes were killed for lack of memory so far, in this control group or on this machine.

    Compare two readings: the difference is what happened in between. 0 where the system does not tell.
    """
    return _value(Path("/proc/vmstat"), "oom_kill") + _value(_own_group() / "memory.events", "oom_kill")


def _own_group() -> Path:
    """The folder of this process's control group."""
    try:
        memberships = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        memberships = []
    path = next((line.split("::", 1)[1] for line in memberships if line.startswith("0::")), "/")
    return Path("/sys/fs/cgroup") / path.lstrip("/")


def _value(file: Path, key: str) -> int:
    """The number behind a word in a file of the kernel's, or the only one that it holds; 0: there is none."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    words = [line.removeprefix(f"{key} ").split() for line in lines if not key or line.startswith(f"{key} ")]
    return next((int(found[0]) for found in words if found and found[0].isdigit()), 0)
