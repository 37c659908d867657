"""Files that are replaced whole or not at all, also on a network, and that whoever the umask lets may read."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

_STALE_TRIES = 3


@contextlib.contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """A new file to be written inside the block, which takes the place of ``path`` when the block ends well.

    What was there stays until then, and is what remains where anything fails; nothing else is left behind. Several
    processes may write one path at once: one of them is the last.

    Args:
        path: the file; its folder is made where it is missing.
        durable: be safe on disk before taking the name, so that a power cut leaves the old file or the new one.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        mode = os.fstat(handle).st_mode
        os.close(handle)
        yield new
        os.chmod(new, mode)  # safetensors puts a file of mode 0600 there
        if durable:
            _sync(new)
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
    if durable:
        with contextlib.suppress(OSError):  # some file systems sync no folders; the file itself is safe
            _sync(path.parent)


def read(path: Path) -> bytes:
    """The content of a file that other machines may be replacing: over NFS such a file is stale for a moment.

    Raises:
        OSError: it cannot be read.
    """
    for _ in range(_STALE_TRIES):
        try:
            return path.read_bytes()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
    return path.read_bytes()


def copy_mode(file: Path, folder: Path) -> None:
    """Give every file below a folder the mode of another file; libraries that write there may ignore the umask."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(file.stat().st_mode)


def why_not_written(path: Path, error: OSError) -> str:
    """What to tell people where a file could not be replaced: why, what is left, and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        kept = "what was there before is intact" if os.path.exists(path) else "nothing was left behind"
        return f"{path}: the disk is full ({error.strerror}); {kept}; free some space and run again"
    return f"{path}: cannot be written: {error.strerror}; check the folder and its permissions, then run again"


def _sync(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
