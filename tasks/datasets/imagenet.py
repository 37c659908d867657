"""ImageNet as folders of JPEG files, one per class; it does not fit in memory and is decoded when read."""

from __future__ import annotations

from pathlib import Path

from torchvision.datasets import ImageFolder

from adm_core.errors import AdmError
from tasks.datasets.source import Split

_FOLDER: dict[Split, str] = {"train": "train", "test": "val"}


def read(folder: Path, split: Split) -> ImageFolder:
    """The training images, or the labelled validation images as the test split; classes are WordNet ids.

    Raises:
        AdmError: a class folder holds no image, there is none, or train and val have different classes.
    """
    chosen = folder / _FOLDER[split]
    try:
        found = ImageFolder(str(chosen))
    except FileNotFoundError as error:
        reason = str(error).splitlines()[0]
        raise AdmError(f"{chosen} is not a folder of class folders with images: {reason}") from error
    other = folder / _FOLDER["test" if split == "train" else "train"]
    others = sorted(entry.name for entry in other.iterdir() if entry.is_dir())
    if others != found.classes:
        differing = sorted(set(others).symmetric_difference(found.classes))
        raise AdmError(f"{chosen} and {other} have different classes, e.g. '{differing[0]}'")
    return found
