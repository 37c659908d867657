"""What the processor of this machine offers, and how much of it this process may use. Loads no torch."""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path

from adm_core.control_groups import groups, lines

_INFO = Path("/proc/cpuinfo")


def cores() -> int:
    """CPU cores that this process may use: those it may run on, or fewer where a quota gives it less of their time.

    Of a quota of 2.5 cores it is 2: a third busy process would have all of them wait in turn, and their times tell it.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(allowed, quota())))


def quota() -> float:
    """Cores' worth of time that Linux' control groups give this process, as containers have it; infinite: no limit."""
    return min((_quota_of(folder) for folder in groups("cpu")), default=math.inf)


def _quota_of(group: Path) -> float:
    """What one group may take; infinite where it has no limit or is not there."""
    files = ("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")  # of version 2, and of version 1
    for names in files:
        words = [word for name in names for line in lines(group / name) for word in line.split()]
        if len(words) == 2 and words[0].isdigit() and int(words[1]) > 0:  # else max, or -1
            return int(words[0]) / int(words[1])
    return math.inf


@functools.cache
def told() -> dict[str, str]:
    """What Linux tells of the first core, as in ``/proc/cpuinfo``; empty on other systems."""
    if not _INFO.exists():
        return {}
    first = _INFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def maker(name: str | None = None) -> str:
    """Who made a processor, ``AMD`` or ``Intel``; of others the name itself.

    Args:
        name: as a record tells it; None: this machine's.
    """
    model = told().get("model name", "") if name is None else name
    return next((known for known in ("AMD", "Intel") if known in model), model)


def instructions() -> frozenset[str]:
    """Instruction sets of an x86 processor, such as ``avx2``, in Linux' words; empty where they are not told."""
    return frozenset(told().get("flags", "").split())
