"""Downloading a public data set, only ever when asked to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adm_core.errors import AdmError


def fetch_into(root: Path, title: str, download: Callable[[Path], object]) -> None:
    """Run a torchvision download into a data root.

    Args:
        root: the data root; made if it is not there.
        title: of the data set, for the error.
        download: takes the root.

    Raises:
        AdmError: the folder cannot be written, or the download fails or arrives damaged.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        download(root)
    except (OSError, RuntimeError) as error:
        raise AdmError(f"downloading {title} into {root} failed: {error}") from error
