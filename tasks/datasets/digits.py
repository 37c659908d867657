"""``digits``: scikit-learn's 1,797 real handwritten digits as they are, 8x8 and grey; no download.

The splits keep the same digits for themselves as those of ``digit-scenes``: 50 and 20 of each class for test and
validation, the rest for training. Each digit is there once.
"""

from __future__ import annotations

import numpy as np

from tasks.datasets import sample_files
from tasks.datasets.digit_scenes import CLASSES, Split, sources
from tasks.datasets.images import ImageSet

VERSION = 1


def digits(split: Split) -> ImageSet:
    """One split, in the order of scikit-learn's file; images are uint8 [N, 1, 8, 8], ink white on black.

    Args:
        split: ``train`` (1,097 images), ``validation`` (200) or ``test`` (500).
    """
    ink, labels = sample_files.digits()
    own = np.unique(sources(labels, split))
    sixteenths = (ink[own] * 16).astype(np.int64)
    images = ((sixteenths * 255 + 8) // 16).astype(np.uint8)
    return ImageSet(images[:, None], labels[own], CLASSES)
