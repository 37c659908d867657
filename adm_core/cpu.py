"""What the processor of this machine offers, and how much of it this process may use. Loads no torch."""

from __future__ import annotations

import functools
import os
from pathlib import Path

_INFO = Path("/proc/cpuinfo")


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def told() -> dict[str, str]:
    """What Linux tells of the first core, as in ``/proc/cpuinfo``; empty on other systems."""
    if not _INFO.exists():
        return {}
    first = _INFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def instructions() -> frozenset[str]:
    """Instruction sets of an x86 processor, such as ``avx2``, in Linux' words; empty where they are not told."""
    return frozenset(told().get("flags", "").split())
