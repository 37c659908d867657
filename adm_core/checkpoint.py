"""One-file checkpoints, written atomically and loaded without running pickled code."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from adm_core.errors import AdmError


def save(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings, and lists and dictionaries of them) to ``path`` or not at all.

    Raises:
        AdmError: the disk refuses; the previous checkpoint is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except (OSError, RuntimeError) as error:
        Path(name).unlink(missing_ok=True)
        raise AdmError(f"checkpoint {path.name} could not be written: {error}; the previous one is intact") from error


def load(path: Path) -> dict[str, Any] | None:
    """The state saved at ``path``, on the CPU, or None when there is none.

    Raises:
        AdmError: the file is truncated or damaged.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AdmError(
            f"checkpoint {path.parent.name}/{path.name} cannot be read ({reason}); "
            "it is truncated or damaged: delete it, and training starts over"
        ) from error
    return state
