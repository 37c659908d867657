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
from tasks.datasets.images import ImageSet, uniform
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
    count = COUNTS[split]
    digit, hue, turn = np.arange(count) % 10, np.arange(count) // 10 % len(HUES), np.arange(count) // len(CLASSES)
    own = digit_scenes.own_digits(labels, split)
    starts = hue * np.array([len(found) for found in own])[digit] // len(HUES)
    source = np.array([own[d][i % len(own[d])] for d, i in zip(digit, turn + starts, strict=True)])
    draws = uniform((VERSION, SIDE, list(COUNTS).index(split)), count * DRAWS).reshape(DRAWS, -1)
    tangent = painting.between((-LARGEST_TILT, LARGEST_TILT), draws[1])
    scale = painting.between((SMALLEST_SCALE, 1), draws[0])
    ink = painting.enlarged(glyphs[source], SIDE, scale, tangent, draws[2:4])
    opacity = painting.opacity(ink, painting.between((SMALLEST_OPACITY, 1), draws[4]))
    sixth = 6 / len(HUES) * (hue + STRAY * (draws[8] + draws[9] - 1))
    colour = painting.hued(sixth, painting.between(SATURATION, draws[10]), painting.between(VALUE, draws[11]))
    colour = np.floor(colour * 255 + 0.5).astype(np.int64)
    background = painting.crops(photographs(), SIDE, digit_scenes.places(split), BAND_COUNT, draws[5:8])
    images = painting.painted(background, colour[:, None, None], opacity[..., None])
    return ImageSet(images.transpose(0, 3, 1, 2), digit * len(HUES) + hue, CLASSES, (opacity > 0).astype(np.uint8))
