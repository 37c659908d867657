"""``digit-scenes@1``: handwritten digits on photographs, made from what scikit-learn carries; no download.

Each 28x28 RGB image shows one of scikit-learn's 1,797 real digits, scaled to 0.8-1.0 of the image, rotated by
up to 15 degrees, in a random colour and at an opacity of 0.8-1.0, on a crop of one of scikit-learn's two
sample photographs. The class is the digit; the mask is exactly where the digit was painted.

Splits share neither digits nor photograph pixels: 50 and 20 digits a class are kept for test and validation,
and each photograph is cut into vertical bands that belong to one split each.

The same bytes come out everywhere: draws come from PCG64's raw stream, geometry uses only the operations
IEEE 754 defines exactly, and painting is integer arithmetic. A change in what is drawn needs a new VERSION.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from tasks.datasets import painting
from tasks.datasets.images import ImageSet, Indices, uniform
from tasks.datasets.sample_files import digits, photographs

Split = Literal["train", "validation", "test"]

VERSION = 1
SIDE = 28
CLASSES = tuple("0123456789")
COUNTS: dict[Split, int] = {"train": 5000, "validation": 1000, "test": 2000}
HELD_OUT_DIGITS: dict[Split, int] = {"test": 50, "validation": 20}
"""Source digits of each class that a split keeps for itself; train has the rest."""
BANDS: dict[Split, tuple[int, ...]] = {
    "train": (0, 1, 3, 5, 7, 8, 9, 11, 13, 15),
    "validation": (4, 12),
    "test": (2, 6, 10, 14),
}
"""Which of a photograph's sixteen vertical bands a split may crop from."""
BAND_COUNT = 16
SMALLEST_SCALE, LARGEST_TILT, SMALLEST_OPACITY = 0.8, 0.13165249758739583, 0.8
"""The tilt is tan(15 degrees / 2): an angle drawn by its half-angle tangent needs no sine or cosine."""
PHOTOGRAPHS = 2


def digit_scenes(split: Split) -> ImageSet:
    """One split, with masks; made anew in about a second, the same bytes every time.

    Args:
        split: ``train`` (5,000 images), ``validation`` (1,000) or ``test`` (2,000); classes in equal parts.
    """
    glyphs, labels = digits()
    source = sources(labels, split)
    draws = uniform((VERSION, list(COUNTS).index(split)), len(source) * 12).reshape(12, -1)
    tangent = painting.between((-LARGEST_TILT, LARGEST_TILT), draws[1])
    ink = painting.enlarged(glyphs[source], SIDE, painting.between((SMALLEST_SCALE, 1), draws[0]), tangent, draws[2:4])
    opacity = painting.opacity(ink, painting.between((SMALLEST_OPACITY, 1), draws[4]))
    background = painting.crops(photographs(), SIDE, places(split), BAND_COUNT, draws[5:8])
    colour = np.floor(draws[8:11].T * 256).astype(np.int64)
    images = painting.painted(background, colour[:, None, None], opacity[..., None])
    return ImageSet(images.transpose(0, 3, 1, 2), labels[source], CLASSES, (opacity > 0).astype(np.uint8))


def places(split: Split) -> list[tuple[int, int]]:
    """The (photograph, band) pairs that a split may crop from."""
    return [(photograph, band) for photograph in range(PHOTOGRAPHS) for band in BANDS[split]]


def sources(labels: Indices, split: Split) -> Indices:
    """Which source digit each image of a split shows: int64 [COUNTS[split]], classes taking turns.

    Args:
        labels: int64 [1797], the class of each source digit.
        split: the split; no digit serves two.
    """
    turns = np.arange(COUNTS[split] // len(CLASSES))
    return np.stack([own[turns % len(own)] for own in own_digits(labels, split)], axis=1).reshape(-1)


def own_digits(labels: Indices, split: Split) -> list[Indices]:
    """The source digits that a split keeps for itself, of each class in an order of their own.

    Args:
        labels: int64 [1797], the class of each source digit.
        split: the split; no digit serves two.
    """
    keys = uniform((VERSION, 99), len(labels))
    first, second = HELD_OUT_DIGITS["test"], HELD_OUT_DIGITS["test"] + HELD_OUT_DIGITS["validation"]
    part = {"test": slice(first), "validation": slice(first, second), "train": slice(second, None)}[split]
    members = (np.flatnonzero(labels == digit) for digit in range(len(CLASSES)))
    return [found[np.argsort(keys[found], kind="stable")][part] for found in members]
