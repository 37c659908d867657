"""ImageNet as folders of JPEG files, one per class; it does not fit in memory and is decoded when read."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from adm_core.errors import AdmError
from tasks.datasets.class_folders import ImageFiles, check_same_classes, class_names, list_images
from tasks.datasets.source import Split

CLASSES = 1000
_FOLDER: dict[Split, str] = {"train": "train", "test": "val"}


def read(folder: Path, split: Split) -> ImageFiles:
    """The training images, or the labelled validation images as the test split; classes are WordNet ids.

    Raises:
        AdmError: as :func:`classes`, or a class folder holds no image.
    """
    classes(folder)
    return list_images(folder / _FOLDER[split])


def classes(folder: Path) -> tuple[str, ...]:
    """The names of the class folders, which must be ImageNet's: a network's classes are numbered in their order.

    Raises:
        AdmError: train and val have different classes, or there are others than the 1,000 WordNet ids.
    """
    train = folder / _FOLDER["train"]
    check_same_classes(train, folder / _FOLDER["test"])
    found = class_names(train)
    foreign = sorted(set(found) - set(_wordnet_ids()))
    if len(found) == CLASSES and foreign:
        raise AdmError(
            f"{train} holds class folders that are not named by ImageNet's WordNet ids, e.g. '{foreign[0]}', so that "
            "its classes would be numbered in another order than every network's; name them as n01440764"
        )
    return found


def _wordnet_ids() -> list[str]:
    """The 1,000 ids of ILSVRC 2012, from the list that timm ships; timm is not imported."""
    spec = importlib.util.find_spec("timm")
    if spec is None or spec.origin is None:
        raise AdmError("ImageNet's classes are checked against timm's list, and timm is not installed; run make setup")
    listing = Path(spec.origin).parent / "data" / "_info" / "imagenet_synsets.txt"
    return listing.read_text(encoding="utf-8").split()
