"""One lock per cell, held by the runner and by its worker until both are gone."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class CellLock:
    """An exclusive lock on a file, tied to an open descriptor that a child process can inherit.

    The kernel drops it when the last holder closes the descriptor or dies, so no stale lock can be left behind.

    Attributes:
        descriptor: to be passed to the child.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def release(self) -> None:
        """Give up this process's hold; a child that inherited the descriptor keeps its own."""
        os.close(self.descriptor)


def acquire(store: Path, cell_id: str) -> CellLock | None:
    """Lock a cell, or None when somebody else holds it.

    Args:
        store: path of the store, in which lock files lie in a folder of their own; made if absent.
        cell_id: the cell.
    """
    file = _file(store, cell_id)
    file.parent.mkdir(parents=True, exist_ok=True)
    return _lock(file, fcntl.LOCK_EX)


def is_held(store: Path, cell_id: str) -> bool:
    """Whether somebody is at work on a cell."""
    file = _file(store, cell_id)
    if not file.exists():
        return False
    lock = _lock(file, fcntl.LOCK_SH)  # shared: two onlookers do not take each other for a runner
    if lock is None:
        return True
    lock.release()
    return False


def _file(store: Path, cell_id: str) -> Path:
    return store / "locks" / f"{cell_id}.lock"


def _lock(file: Path, kind: int) -> CellLock | None:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return CellLock(descriptor)
