"""Cityscapes from its public folders: fine labels, the 19 classes that are scored; decoded when read."""

from __future__ import annotations

from pathlib import Path

from tasks.datasets.class_table import class_table
from tasks.datasets.file_pairs import Files, pair
from tasks.datasets.scenes import SceneFiles
from tasks.datasets.source import Split

_FOLDER: dict[Split, str] = {"train": "train", "test": "val"}


def read(folder: Path, split: Split) -> SceneFiles:
    """2,975 training images, or the 500 validation images as the test split, whose own labels are not public.

    Raises:
        AdmError: a folder is empty, or an image or label file lacks its other half.
    """
    place = _FOLDER[split]
    images = Files(folder / "leftImg8bit" / place, "_leftImg8bit.png")
    labels = Files(folder / "gtFine" / place, "_gtFine_labelIds.png")
    return class_table("cityscapes").over(pair(images, labels))
