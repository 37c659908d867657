"""Whether the kernel has been killing processes for lack of memory."""

from __future__ import annotations

from pathlib import Path


def memory_kills() -> int:
    """How many processes were killed for lack of memory so far, in this control group or on this machine.

    Compare two readings: the difference is what happened in between. 0 where the system does not tell.
    """
    return _machine() + _control_group()


def _machine() -> int:
    return _value(Path("/proc/vmstat"), "oom_kill")


def _control_group() -> int:
    try:
        memberships = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return 0
    path = next((line.split("::", 1)[1] for line in memberships if line.startswith("0::")), "/")
    return _value(Path("/sys/fs/cgroup") / path.lstrip("/") / "memory.events", "oom_kill")


def _value(file: Path, key: str) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key} ")), 0)
