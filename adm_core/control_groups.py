"""The control groups by which Linux limits what a process may take, as containers have them. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_MEMBERSHIPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def groups(controller: str) -> Iterator[Path]:
    """Folders of the control groups that limit this process, each followed by those above it; none: there are none.

    They may be of version 2, of version 1, or of both, and a folder need not exist. In a container a group's path may
    be one that is only seen outside; the topmost is then the container's own.

    Args:
        controller: of what they limit: ``cpu`` or ``memory``.
    """
    for number, controllers, path in (line.split(":", 2) for line in lines(_MEMBERSHIPS)):
        if number == "0":  # version 2
            top = _GROUPS
        elif controller in controllers.split(","):
            top = next((top for name in (controllers, controller) if (top := _GROUPS / name).is_dir()), _GROUPS)
        else:
            continue
        while path.strip("/"):
            yield top / path.strip("/")
            path = path.rpartition("/")[0]
        yield top


def lines(file: Path) -> list[str]:
    """The lines of a file of the kernel's; empty where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
