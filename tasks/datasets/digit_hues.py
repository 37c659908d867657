"""``digit-hues@1``: handwritten digits in one of ten hues on photographs, a hundred classes; no download.

Each 24x24 RGB image shows one of scikit-learn's 1,797 real digits, scaled to 0.75-1.0 of the image, rotated by up to 15
degrees, in one of ten hues and at an opacity of 0.7-1.0, on a crop of one of scikit-learn's two sample photographs.
The class is the digit with the hue; the mask is exactly where the digit was painted.

A drawn hue strays from its class's by up to 0.6 of the way to the next, most often by little, so that neighbouring hues
overlap: which class an image belongs to is a matter of probability, and a teacher that tells how likely each class is
knows more than the label says.

Splits share neither digits nor photograph pixels: they keep the digits and the bands of ``digit-scenes``.
"""

from __future__ import annotations

import numpy as np

from tasks.datasets import digit_scenes, painting
from tasks.datasets.digit_scenes import BAND_COUNT, LARGEST_TILT, Split
from tasks.datasets.images import ImageSet, Indices, uniform
from tasks.datasets.sample_files import digits, photographs

VERSION = 1
SIDE = 24
HUES = ("red", "orange", "lime", "green", "mint", "azure", "blue", "violet", "magenta", "rose")
"""In the order of the colour circle, 36 degrees apart."""
CLASSES = tuple(f"{hue} {digit}" for digit in digit_scenes.CLASSES for hue in HUES)
COUNTS: dict[Split, int] = {"train": 5000, "validation": 4000, "test": 10000}
SMALLEST_SCALE, SMALLEST_OPACITY = 0.75, 0.7
STRAY = 0.6
"""How far a drawn hue may lie from its class's, in steps from one hue to the next; triangularly distributed."""
SATURATION, VALUE = (0.5, 1.0), (0.6, 1.0)
DRAWS = 12


def digit_hues(split: Split) -> ImageSet:
    """One split, with masks; made anew in a second or two, the same bytes every time.

    Args:
        split: ``train`` (5,000 images), ``validation`` (4,000) or ``test`` (10,000); classes in equal parts.
    """
    glyphs, labels = digits()
    source, hue = sources(labels, split), hues(split)
    draws = uniform((VERSION, SIDE, list(COUNTS).index(split)), DRAWS * len(source)).reshape(DRAWS, -1)
    tangent = painting.between((-LARGEST_TILT, LARGEST_TILT), draws[1])
    scale = painting.between((SMALLEST_SCALE, 1), draws[0])
    ink = painting.enlarged(glyphs[source], SIDE, scale, tangent, draws[2:4])
    opacity = painting.opacity(ink, painting.between((SMALLEST_OPACITY, 1), draws[4]))
    sixth = 6 / len(HUES) * (hue + STRAY * (draws[8] + draws[9] - 1))
    hued = painting.hued(sixth, painting.between(SATURATION, draws[10]), painting.between(VALUE, draws[11]))
    colour = np.floor(hued * 255 + 0.5).astype(np.int64)
    background = painting.crops(photographs(), SIDE, digit_scenes.places(split), BAND_COUNT, draws[5:8])
    images = painting.painted(background, colour[:, None, None], opacity[..., None])
    return ImageSet(
        images.transpose(0, 3, 1, 2), labels[source] * len(HUES) + hue, CLASSES, (opacity > 0).astype(np.uint8)
    )


def sources(labels: Indices, split: Split) -> Indices:
    """Which source digit each image of a split shows: int64 [COUNTS[split]], digits taking turns.

    Each hue begins at another of the split's own digits, so that no digit keeps to one hue.

    Args:
        labels: int64 [1797], the class of each source digit.
        split: the split; no digit serves two.
    """
    turn, hue = np.divmod(np.arange(COUNTS[split] // 10), len(HUES))
    own = digit_scenes.own_digits(labels, split)
    return np.stack([found[(turn + hue * len(found) // len(HUES)) % len(found)] for found in own], axis=1).reshape(-1)


def hues(split: Split) -> Indices:
    """Which hue each image of a split shows: int64 [COUNTS[split]], positions in ``HUES``, after each ten digits."""
    return np.arange(COUNTS[split], dtype=np.int64) // 10 % len(HUES)
