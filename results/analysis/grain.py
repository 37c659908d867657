"""The grain of scores: top-1 on 2,000 images moves in steps of 0.05, whatever the networks do."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

_FINEST = 100_000
"""Largest denominator that is looked for: more test images than that leave a grain that matters to nobody."""
_ROUNDING = 1e-13
"""Relative error of a score that was computed in double precision."""


def grain(scores: Iterable[float]) -> float:
    """The largest step of which all the scores are whole multiples; 0 where there is none that can be seen.

    Records do not say on how many examples they were scored, so the step is read from the scores. Few scores may
    share a larger step by chance, never a smaller one.

    Args:
        scores: of one metric, all on the same examples.
    """
    numerator, denominator = 0, 1
    for score in scores:
        whole = Fraction(score).limit_denominator(_FINEST)
        if abs(float(whole) - score) > _ROUNDING * max(abs(score), 1.0):
            return 0.0
        common = math.lcm(denominator, whole.denominator)
        numerator = math.gcd(numerator * (common // denominator), whole.numerator * (common // whole.denominator))
        denominator = common
        if denominator > _FINEST:
            return 0.0
    return numerator / denominator
