"""CIFAR-10 and CIFAR-100 from the files of their public release, read only if their md5 sums agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity

from adm_core.errors import AdmError
from tasks.datasets.fetch import fetch_into
from tasks.datasets.images import ImageSet
from tasks.datasets.source import Split, corrupt


def read_cifar10(folder: Path, split: Split) -> ImageSet:
    """CIFAR-10 from ``cifar-10-batches-py``: 50,000 training or 10,000 test images of 32x32.

    Raises:
        AdmError: a file is missing or differs from the release.
    """
    return _read(CIFAR10, folder, split)


def read_cifar100(folder: Path, split: Split) -> ImageSet:
    """CIFAR-100 (100 fine classes) from ``cifar-100-python``: 50,000 training or 10,000 test images of 32x32.

    Raises:
        AdmError: a file is missing or differs from the release.
    """
    return _read(CIFAR100, folder, split)


def fetch_cifar10(root: Path) -> None:
    """Download CIFAR-10 into a data root with torchvision."""
    fetch_into(root, "CIFAR-10", lambda to: CIFAR10(to, download=True))


def fetch_cifar100(root: Path) -> None:
    """Download CIFAR-100 into a data root with torchvision."""
    fetch_into(root, "CIFAR-100", lambda to: CIFAR100(to, download=True))


def _read(kind: type[CIFAR10], folder: Path, split: Split) -> ImageSet:
    try:
        loaded = kind(folder.parent, train=split == "train")
    except RuntimeError as error:
        raise _damaged(kind, folder, error) from error
    labels = np.asarray(loaded.targets, dtype=np.int64)
    return ImageSet(loaded.data.transpose(0, 3, 1, 2), labels, tuple(loaded.classes))


def _damaged(kind: type[CIFAR10], folder: Path, error: RuntimeError) -> AdmError:
    """Which file torchvision was unhappy with; it does not say."""
    meta = (str(kind.meta["filename"]), str(kind.meta["md5"]))
    for name, md5 in [*kind.train_list, *kind.test_list, meta]:
        file = folder / name
        if not file.exists():
            return AdmError(f"{file} is missing; unpack the data set anew")
        if not check_integrity(str(file), md5):
            return corrupt(file, "its md5 sum is not that of the public release")
    return AdmError(f"{folder} cannot be read: {error}")
