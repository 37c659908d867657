"""Fashion-MNIST from its IDX files, gzipped or not.

The files are checked by what they say about themselves, not by md5: distributions compress them anew.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adm_core.errors import AdmError
from tasks.datasets.fetch import fetch_into
from tasks.datasets.images import ImageSet
from tasks.datasets.source import Split, corrupt

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_UNSIGNED_BYTE = 0x08
_PREFIX: dict[Split, str] = {"train": "train", "test": "t10k"}


def read(folder: Path, split: Split) -> ImageSet:
    """Fashion-MNIST as RGB: 60,000 training or 10,000 test images of 28x28, grey in all three channels.

    Raises:
        AdmError: a file is damaged, or images and labels do not belong together.
    """
    image_file = _file(folder, f"{_PREFIX[split]}-images-idx3-ubyte")
    label_file = _file(folder, f"{_PREFIX[split]}-labels-idx1-ubyte")
    grey, labels = read_idx(image_file, 3), read_idx(label_file, 1)
    if len(grey) != len(labels):
        count = f"{len(labels)} labels for the {len(grey)} images"
        raise AdmError(f"{label_file} holds {count} of {image_file.name}")
    if len(labels) and labels.max() >= len(CLASSES):
        raise corrupt(label_file, f"it holds the label {labels.max()}, and there are {len(CLASSES)} classes")
    return ImageSet(np.repeat(grey[:, None], 3, axis=1), labels.astype(np.int64), CLASSES)


def fetch(root: Path) -> None:
    """Download Fashion-MNIST into a data root with torchvision."""
    from torchvision.datasets import FashionMNIST

    fetch_into(root, "Fashion-MNIST", lambda to: FashionMNIST(to, download=True))


def read_idx(file: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes.

    Args:
        file: plain, or gzipped if its name ends in ``.gz``.
        dimensions: how many the array must have.

    Raises:
        AdmError: not such a file, or cut short.
    """
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise corrupt(file, str(error)) from error
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes((0, 0, _UNSIGNED_BYTE, dimensions)):
        raise corrupt(file, f"it does not begin like an IDX file of {dimensions}-dimensional unsigned bytes")
    shape = tuple(int(size) for size in np.frombuffer(content, dtype=">u4", count=dimensions, offset=4))
    expected = start + int(np.prod(shape))
    if len(content) != expected:
        raise corrupt(file, f"it holds {len(content)} bytes where its header announces {expected}")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _file(folder: Path, name: str) -> Path:
    plain, packed = folder / name, folder / f"{name}.gz"
    if not plain.exists() and not packed.exists():
        raise AdmError(f"{plain} is missing, and so is {packed.name}")
    return plain if plain.exists() else packed
