"""Dunnett's distribution: the largest of several t statistics that share a reference and an estimate of the spread.

With K rivals held against one reference, the statistics are ``(√(1 - ρ) Z_i - √ρ Z_0) / S`` with standard normal ``Z``
and ``S² ~ χ²(df) / df``: any two correlate by ρ, a half where the reference is as noisy as they are, and the K-fold
integral comes down to two:

    P(all ≤ t) = ∫ f(s) ∫ φ(z) Φ((√ρ z + t s) / √(1 - ρ))^K dz ds

and with ``Φ((√ρ z + t s) / √(1 - ρ)) - Φ((√ρ z - t s) / √(1 - ρ))`` for absolute values. Both are integrated by the
trapezoidal rule, which converges exponentially for such functions, over z and ln s; nothing is drawn at random.

Sources: Dunnett, Journal of the American Statistical Association 50 (1955) and Biometrics 20 (1964); the one-sided
value is Hsu's for comparisons with the best, Annals of Statistics 9 (1981).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from results.analysis.statistics import rounded

Sides = Literal[1, 2]
_Z, _STEP = 8.5, 0.35
"""The ends and the step of the grid over z; φ(8.5) is 1e-16 of φ(0)."""
_LOG_STEP, _OF_SPREAD = 0.15, 0.7
"""The step of the grid over ln s: at most this, and this share of the standard deviation of ln s, 1 / √(2 df)."""
_LEFT_OUT = 23.0
"""-ln of the share of the p-value that may lie below the grid over ln s; nothing below e^-35 is looked for."""
_LEAST = 1e-15
"""No p-value is smaller: what lies below is rounding."""


class Pair(NamedTuple):
    """What differences to a reference are tested by.

    Attributes:
        noise: the standard deviation of a difference, by √2.
        df: its degrees of freedom, whole or not.
        correlation: of the differences of two rivals.
    """

    noise: NDArray[np.float64]
    df: NDArray[np.float64]
    correlation: NDArray[np.float64]


def p_value(t: float, rivals: int, df: float, sides: Sides, correlation: float = 0.5) -> float:
    """How often the largest of the statistics exceeds ``t`` where no rival differs from the reference.

    Args:
        t: the statistic; its size counts for two sides.
        rivals: how many are held against the reference, K ≥ 1; with one, this is Student's t.
        df: degrees of freedom of the spread, ≥ 1.
        sides: 1: the largest statistic; 2: the largest in absolute value.
        correlation: of two rivals' differences, in [0, 0.99]: the reference's share of their variance, a half where it
            is as noisy as they are.

    Returns:
        In [1e-15, 1]; to six digits where it is above 1e-12.
    """
    from scipy.special import gammaln, ndtr

    t = abs(t) if sides == 2 else t
    shared, own = math.sqrt(correlation), math.sqrt(1 - correlation)
    wide_step = _STEP * min(1.0, own / shared) if shared else _STEP
    z = np.arange(0.0 if sides == 2 else -_Z, _Z, wide_step)  # two sides are symmetric in z
    weights = np.exp(-z * z / 2) * (wide_step / math.sqrt(2 * math.pi))
    if sides == 2:
        weights[1:] *= 2
    step = min(_LOG_STEP, _OF_SPREAD / math.sqrt(2 * df))
    reach = min(math.log(max(abs(t), 1.0)) + _LEFT_OUT / df + 1, 35 / df + math.sqrt(35 / df))
    log_s = np.arange(-reach, math.log1p(_Z / math.sqrt(df)), step)
    s = np.exp(log_s)
    log_density = math.log(2) + df / 2 * math.log(df / 2) - gammaln(df / 2) + df * (log_s - s * s / 2)
    wide, moved = t / own * s[:, None], shared / own * z
    outside = ndtr(-moved - wide) + (ndtr(moved - wide) if sides == 2 else 0.0)
    # the complement, so that small p keep their digits
    some = -np.expm1(rivals * np.log1p(-np.minimum(outside, 1 - 1e-16)))
    found = float(np.exp(log_density) * step @ (some @ weights))
    return rounded(min(max(found, _LEAST), 1.0))


@lru_cache(maxsize=256)
def critical(level: float, rivals: int, df: float, sides: Sides, correlation: float = 0.5) -> float:
    """The t at which the p-value is ``level``, by bisection to ten digits; the others are those of :func:`p_value`."""
    low, high = 0.0, 1.0
    while p_value(high, rivals, df, sides, correlation) > level:
        low, high = high, 2 * high
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(middle, rivals, df, sides, correlation) > level else (low, middle)
    return high


def exceeds(
    level: float, t: NDArray[np.float64], rivals: int, sides: Sides, pair: Pair, asked: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Whether p of each statistic is below a level.

    Args:
        level: in (0, 0.5).
        t: [..., K], not negative.
        rivals: see :func:`p_value`, as for sides.
        sides: 1 or 2.
        pair: of all of a table's statistics, [...], or of each.
        asked: [..., K], or to be broadcast: what is not asked is not told.

    Returns:
        [..., K].
    """
    from scipy.special import stdtrit

    df, correlation = (np.broadcast_to(each if each.ndim == t.ndim else each[..., None], t.shape) for each in pair[1:])
    # p itself is asked only between the critical values of one test and of K independent ones, as it takes time
    told: NDArray[np.bool_] = asked & (t > stdtrit(df, 1 - level / sides / rivals))
    for place in zip(*np.nonzero(asked & ~told & (t > stdtrit(df, 1 - level / sides))), strict=True):
        told[place] = p_value(float(t[place]), rivals, float(df[place]), sides, float(correlation[place])) < level
    return told
