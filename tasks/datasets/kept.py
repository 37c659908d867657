"""Sets that are made or decoded once: kept in a store by the first process that needs one, mapped by the others."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adm_core import source
from tasks import artefacts
from tasks.datasets.images import ImageSet
from tasks.datasets.scenes import Scenes
from tasks.datasets.text import TextSet

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (ImageSet, Scenes, TextSet)}
_MADE_WITH = ("numpy", "scipy", "pillow", "scikit-learn")
"""Libraries whose version decides what is drawn and decoded."""


def kept(store: Path, name: str, files: Path | None, make: Callable[[], Any]) -> Any:
    """A set as it was kept, or made now and kept; equal to what ``make`` gives.

    The file is named for what it was made of: the code of the data sets, the libraries that draw and decode, and the
    names, sizes and times of the files that were read. Its arrays are mapped, not read, so that workers share them.

    Args:
        store: folder of artefacts.
        name: of the set and its split.
        files: the folder that ``make`` reads; None: it reads none.
        make: gives an ``ImageSet``, ``Scenes`` or a ``TextSet``.

    Raises:
        AdmError: the set cannot be made, or the disk refuses.
    """
    found = hashlib.sha256(source.of_folders([Path(__file__).parent]).encode())
    found.update("".join(f"{library} {version(library)}\n" for library in _MADE_WITH).encode())
    for line in _listing(files) if files else ():
        found.update(line.encode())
    path = store / "data" / f"{name}-{found.hexdigest()[:16]}.safetensors"
    known = artefacts.read(path)
    if known is not None:
        arrays = {key: tensor.numpy() for key, tensor in known[0].items()}
        kind, rest = json.loads(known[1])
        return _KINDS[kind](**arrays, **{key: _tuples(value) for key, value in rest.items()})
    made = make()
    values = {field.name: getattr(made, field.name) for field in fields(made)}
    arrays = {key: value for key, value in values.items() if isinstance(value, np.ndarray)}
    rest = {key: value for key, value in values.items() if key not in arrays}
    tensors = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in arrays.items()}
    artefacts.write(path, tensors, json.dumps([type(made).__name__, rest]))
    return made


def _listing(folder: Path) -> list[str]:
    """Path, size and time of change of every file below a folder, in a fixed order."""
    found = []
    for place, _, names in os.walk(folder, followlinks=True):
        for name in names:
            told = os.stat(os.path.join(place, name))
            found.append(f"{os.path.relpath(place, folder)}/{name}\0{told.st_size}\0{told.st_mtime_ns}\n")
    return sorted(found)


def _tuples(value: Any) -> Any:
    """Lists of JSON as the tuples that they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
