"""The memory that workers may take, and whether the kernel has been killing processes for lack of it."""

from __future__ import annotations

import math
from pathlib import Path

from adm_core.control_groups import groups, lines
from suites.executors.gpus import gpus

_MACHINE = Path("/proc/meminfo")
_FILES = (
    ("memory.max", "memory.current", "file"),  # of version 2; without a limit the first holds the word max
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"),  # of version 1; without one a huge number
)
"""Of a control group: the files with its limit and with what it takes, and what it caches in ``memory.stat``."""
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
    machine = _value(_MACHINE, "MemAvailable:") * 1024 if _MACHINE.exists() else math.inf
    left = min([machine, *map(_left, groups("memory"))])
    return None if left == math.inf else max(left, 0) / 2**20


def memory_kills() -> int:
    """How many processes were killed for lack of memory so far, in this control group or on this machine.

    Compare two readings: the difference is what happened in between. 0 where the system does not tell.
    """
    counts = ("memory.events", "memory.oom_control")  # of version 2, and of version 1
    of_groups = sum(_value(group / name, "oom_kill") for group in groups("memory") for name in counts)
    return _value(Path("/proc/vmstat"), "oom_kill") + of_groups


def _left(group: Path) -> float:
    """Bytes that a control group has left, with what it caches, as that can be given up; infinite: no limit."""
    for limit, taken, cached in _FILES:
        if allowed := _value(group / limit, ""):
            return allowed - _value(group / taken, "") + _value(group / "memory.stat", cached)
    return math.inf


def _value(file: Path, key: str) -> int:
    """The number behind a word in a file of the kernel's, or the only one that it holds; 0: there is none."""
    words = [line.removeprefix(f"{key} ").split() for line in lines(file) if not key or line.startswith(f"{key} ")]
    return next((int(found[0]) for found in words if found and found[0].isdigit()), 0)
