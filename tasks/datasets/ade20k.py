"""ADE20K as the scene parsing benchmark has it: 150 classes, what belongs to none is void; decoded when read."""

from __future__ import annotations

from pathlib import Path

from tasks.datasets.class_table import class_table
from tasks.datasets.file_pairs import Files, pair
from tasks.datasets.scenes import SceneFiles
from tasks.datasets.source import Split

_FOLDER: dict[Split, str] = {"train": "training", "test": "validation"}


def read(folder: Path, split: Split) -> SceneFiles:
    """20,210 training images, or the 2,000 validation images as the test split, whose own labels are not public.

    Raises:
        AdmError: a folder is empty, or an image or label file lacks its other half.
    """
    place = _FOLDER[split]
    pairs = pair(Files(folder / "images" / place, ".jpg"), Files(folder / "annotations" / place, ".png"))
    return class_table("ade20k").over(pairs)
