"""What scikit-learn carries, read from its files: importing scikit-learn for it would cost every worker two seconds."""

from __future__ import annotations

import functools
import gzip
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adm_core.errors import AdmError
from tasks.datasets.images import Indices

Pixels = NDArray[np.uint8]


@functools.cache
def photographs() -> Pixels:
    """scikit-learn's two sample photographs, ``china`` and ``flower``: uint8 [2, 427, 640, 3], RGB."""
    return np.stack([np.asarray(Image.open(_file(f"images/{name}.jpg"))) for name in ("china", "flower")])


@functools.cache
def digits() -> tuple[NDArray[np.float64], Indices]:
    """scikit-learn's handwritten digits: ink float64 [1797, 8, 8] in 0..1 (exact sixteenths), classes int64 [1797]."""
    with gzip.open(_file("data/digits.csv.gz"), "rt", encoding="ascii") as lines:
        table = np.loadtxt(lines, delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8) / 16, table[:, -1].astype(np.int64)


def _file(name: str) -> Path:
    """A file of ``sklearn.datasets``, found without importing it.

    Raises:
        AdmError: scikit-learn is not installed, or this version of it has no such file.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise AdmError("the embedded data sets are made from scikit-learn's samples: pip install scikit-learn")
    file = Path(spec.origin).parent / "datasets" / name
    if not file.is_file():
        raise AdmError(f"scikit-learn's sample {file} is missing; install scikit-learn 1.6 or later anew")
    return file
