"""One lock per cell, held by the runner and by its worker until both are gone."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

from adm_core.errors import AdmError

LOCKS = "locks"
"""The folder of a store in which the lock files lie."""


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

    Raises:
        AdmError: the store cannot be written, or its file system has no locks.
    """
    file = _file(store, cell_id)
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise AdmError(
                f"{file}: a cell cannot be locked for training: {error.strerror}; check whose the store is and its "
                "permissions, or train into a store of your own (--store)"
            ) from error
        lock = _lock(store, descriptor, fcntl.LOCK_EX)
        if lock is None or _is_still(file, descriptor):
            return lock
        lock.release()


def forget(store: Path, cell_id: str, lock: CellLock) -> None:
    """Give up a lock and remove its file, which whoever waits for it notices."""
    with contextlib.suppress(OSError):
        _file(store, cell_id).unlink()
    lock.release()


def _is_still(file: Path, descriptor: int) -> bool:
    """Whether a file that was opened is the one of its name: it may have been removed before it was locked."""
    try:
        return os.path.samestat(os.stat(file), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def is_held(store: Path, cell_id: str) -> bool:
    """Whether somebody is at work on a cell; no where the lock file may not be read.

    Raises:
        AdmError: the file system has no locks.
    """
    try:
        descriptor = os.open(_file(store, cell_id), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    # Shared: two onlookers do not take each other for a runner.
    lock = _lock(store, descriptor, fcntl.LOCK_SH)
    if lock is None:
        return True
    lock.release()
    return False


def held(store: Path, cells: Iterable[str]) -> set[str]:
    """Those of some cells that somebody is at work on.

    Raises:
        AdmError: the file system has no locks.
    """
    return {cell for cell in cells if is_held(store, cell)}


def _file(store: Path, cell_id: str) -> Path:
    return store / LOCKS / f"{cell_id}.lock"


def _lock(store: Path, descriptor: int, kind: int) -> CellLock | None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        os.close(descriptor)
        raise AdmError(
            f"store '{store}': its file system locks no files ({error.strerror}), so nothing keeps two runners from "
            "training one cell at once; use a store on another one, such as a local disk (--store), or have this one "
            "mounted with locks (flock)"
        ) from error
    except BaseException:
        os.close(descriptor)
        raise
    return CellLock(descriptor)
