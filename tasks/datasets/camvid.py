"""CamVid in the 11-class version and split of the SegNet tutorial; it fits in memory at any resolution."""

from __future__ import annotations

from pathlib import Path

from tasks.datasets.class_table import class_table
from tasks.datasets.file_pairs import Files, pair
from tasks.datasets.scenes import Scenes
from tasks.datasets.source import Split

_FOLDER: dict[Split, str] = {"train": "train", "validation": "val", "test": "test"}


def read(folder: Path, split: Split) -> Scenes:
    """367 training, 101 validation or 233 test frames, published at 480x360.

    Validation frames are of a drive that train has too; most test frames are of one that is not.

    Raises:
        AdmError: an image or label file is damaged, lacks its other half, differs in size, or holds an unknown id.
    """
    place = _FOLDER[split]
    pairs = pair(Files(folder / place, ".png"), Files(folder / f"{place}annot", ".png"))
    return class_table("camvid").over(pairs).in_memory()
