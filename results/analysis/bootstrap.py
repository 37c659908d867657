"""Intervals by resampling images. ``scipy.stats`` is loaded when one is asked for: it takes most of a second."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from results.analysis.statistics import CONFIDENCE

RESAMPLES = 2000
"""How often images are drawn with replacement."""
_AT_ONCE = 1 << 23
"""Numbers held at once while resampling."""

Floats = NDArray[np.float64]


def mean_intervals(values: Floats) -> list[tuple[float, float]]:
    """95 % intervals of means over images: percentile bootstrap with :data:`RESAMPLES` resamples and a fixed seed.

    Every quantity is resampled with the same images, so an interval of differences is that of the paired bootstrap.

    Args:
        values: [M, N], M quantities of the same N ≥ 2 images.

    Returns:
        The lower and upper end of each of the M means.
    """
    from scipy.stats import bootstrap

    found = bootstrap(
        (values,),
        np.mean,
        axis=-1,
        n_resamples=RESAMPLES,
        batch=max(1, _AT_ONCE // values.size),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return [(float(low), float(high)) for low, high in zip(found.low, found.high, strict=True)]
