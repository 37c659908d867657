"""How small a difference to the baseline the tables' test finds: its power, and what it needs.

Of K rows that are held against the baseline on N seeds, one differs by Δ. Its statistic has a noncentral t
distribution of shift ``Δ / (σ √(2 / N))``, whatever the other rows do, and it is told from the baseline where it
exceeds the critical value that the table uses:

    P(T > t) = ∫ φ(z) P(χ²(df) < df ((z + shift) / t)²) dz,    over z > -shift

integrated by the trapezoidal rule. That a row is told on the *wrong* side is not counted as found.

Source: Johnson, Kotz & Balakrishnan, Continuous Univariate Distributions 2 (1995), chapter 31.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from results.analysis.blocked import LEVEL
from results.analysis.dunnett import critical
from results.analysis.statistics import CONFIDENCE, rounded

POWER = 0.8
"""A difference counts as one that can be told when it is told with this probability."""
_TAILS = (0.5 + CONFIDENCE / 2, 0.5 - CONFIDENCE / 2)
_Z = 8.5
"""The ends of the grid over z."""
_STEP, _OF_SPREAD = 0.1, 0.3
"""Its step: at most this, and this share of the width of χ's distribution on it, t / √(2 df)."""


def found(shift: float, t: float, df: float) -> float:
    """How often a noncentral t statistic exceeds a critical value.

    Args:
        shift: the noncentrality, ≥ 0: the true difference in units of its true standard error.
        t: the critical value, > 0.
        df: degrees of freedom of the estimated standard error, ≥ 1.

    Returns:
        In [0, 1]; to 1e-5, and to 1e-6 above one degree of freedom.
    """
    from scipy.special import gammainc

    step = min(_STEP, _OF_SPREAD * t / math.sqrt(2 * df))
    z = np.arange(-_Z, _Z, step)
    below = gammainc(df / 2, df / 2 * (np.maximum(z + shift, 0.0) / t) ** 2)
    return rounded(float(np.exp(-z * z / 2) @ below) * step / math.sqrt(2 * math.pi))


@dataclass(frozen=True)
class Contrast:
    """The comparison of one row with the baseline as a table makes it, on any number of seeds.

    Attributes:
        rivals: the rows that are held against the baseline; 1 for a row that is tested by itself.
        freedom: degrees of freedom of the noise for each seed but the first: one less than the rows that it is pooled
            over where those are even, 1 for a paired t-test.
        correlation: of the differences of two rows.
        level: of the test.
    """

    rivals: int
    freedom: float
    correlation: float = 0.5
    level: float = LEVEL

    @classmethod
    def alone(cls, rivals: int) -> Contrast:
        """A paired t-test at the level divided by the number of rivals, Bonferroni's."""
        return cls(1, 1.0, level=LEVEL / rivals)

    def half_width(self, noise: float, seeds: int) -> float:
        """Half the length of the test's 95 % interval of a difference: what is beyond it has p < 0.05.

        Args:
            noise: standard deviation of a score, means of rows and seeds taken out.
            seeds: at least two.
        """
        return rounded(self._critical(seeds) * noise * math.sqrt(2 / seeds))

    def noise_interval(self, noise: float, seeds: int) -> tuple[float, float]:
        """The 95 % interval of the noise itself, of which few seeds tell little: that of χ²."""
        from scipy.special import gammaincinv

        half = self._df(seeds) / 2
        low, high = (noise * math.sqrt(half / gammaincinv(half, tail)) for tail in _TAILS)
        return rounded(low), rounded(high)

    def power(self, difference: float, noise: float, seeds: int) -> float:
        """How often a true difference is told from the baseline; see :meth:`half_width` for the others."""
        return found(difference / (noise * math.sqrt(2 / seeds)), self._critical(seeds), self._df(seeds))

    def smallest(self, noise: float, seeds: int) -> float:
        """The true difference that is told from the baseline with probability :data:`POWER`."""
        t, df = self._critical(seeds), self._df(seeds)
        low, high = 0.0, 2 * t + 2
        while high - low > 1e-10 * high:
            middle = (low + high) / 2
            low, high = (middle, high) if found(middle, t, df) < POWER else (low, middle)
        return rounded(high * noise * math.sqrt(2 / seeds))

    def seeds_needed(self, difference: float, noise: float, most: int) -> int | None:
        """The fewest seeds on which a true difference > 0 is told with probability :data:`POWER`.

        Returns:
            At least 2; None where it is more than ``most``.
        """
        seeds = range(2, most + 1)
        place = bisect_left(seeds, True, key=lambda n: self.power(difference, noise, n) >= POWER)
        return seeds[place] if place < len(seeds) else None

    def _df(self, seeds: int) -> float:
        return self.freedom * (seeds - 1)

    def _critical(self, seeds: int) -> float:
        return critical(self.level, self.rivals, self._df(seeds), 2, self.correlation)
