"""CamVid in the 11-class version and split of the SegNet tutorial; it fits in memory at any resolution."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from adm_core.errors import AdmError
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


def read_half(folder: Path, split: Split) -> Scenes:
    """The same frames at half their size, 240x180: images by the mean of 2x2 pixels, labels of every second pixel.

    Frames that somebody has halved already are taken as they are.

    Raises:
        AdmError: as by :func:`read`, or frames are of another size.
    """
    scenes = read(folder, split)
    height, width = scenes.labels.shape[1:]
    if (width, height) == (240, 180):
        return scenes
    if (width, height) != (480, 360):
        raise AdmError(f"{folder}: frames are {width}x{height}; camvid-half is made of those published, 480x360")
    total = scenes.images.reshape(-1, 180, 2, 240, 2, 3).sum((2, 4), dtype=np.uint16)
    return replace(scenes, images=((total + 2) // 4).astype(np.uint8), labels=scenes.labels[:, ::2, ::2].copy())
