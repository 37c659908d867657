"""Rows compared over the seeds that all have: the randomised complete block design, rows × seeds.

A seed makes all rows better or worse together; what is left when the means of rows and seeds are taken out is the
noise, and it is pooled over the rows: (R - 1)(N - 1) degrees of freedom instead of the N - 1 of two rows alone.
With K = R - 1 rivals:

- Differences to a baseline: Dunnett's two-sided test.
- Among the best: Hsu's comparisons with the best. A row is told from the best where its mean lies further below the
  best mean than Dunnett's one-sided critical value allows; this is one distance for all rows, so who is among the best
  is a top segment of the ranking. The row that is best in truth is among them with 95 % probability.
- Rows and their controls, named beforehand: a t-test each, adjusted by Holm.
- Rows whose noise exceeds the others' grossly are set aside (:attr:`Blocked.aside`): the others' noise is pooled
  without them, and a pair with such a row is tested by the spread of its own differences (paired t). Its p is K times
  as large (Bonferroni), beside the others' of Dunnett's test for all K. Rows among the best then reach down to the last
  one that cannot be told from the best.
- Where it is the baseline that is set aside, its noise is in every difference, the same in all of them. With the
  spread s of its scores less the seeds' means over the n even rows, a difference has the variance
  V = s² + (1 - 1/n) σ², Satterthwaite's degrees of freedom, and two differences correlate by 1 - σ² / V in Dunnett's
  test. So any row set aside is held against the best.

Sources: Dunnett, JASA 50 (1955); Hsu, Multiple Comparisons (1996), chapters 3 to 5; Holm, Scandinavian Journal of
Statistics 6 (1979); Satterthwaite, Biometrics Bulletin 2 (1946).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from results.analysis.dunnett import Pair, Sides, critical, exceeds, p_value
from results.analysis.grain import grain
from results.analysis.holm import holm
from results.analysis.statistics import CONFIDENCE, Difference, rounded

LEVEL = 0.05
"""Two means are told apart when the p-value is below this."""
UNEVEN_LEVEL = 0.05
"""How often the baseline, or any row, is taken for one with more noise than the others where all have the same."""
_ROUNDING = 1e-9
"""Grain, relative to the scores, of scores without a visible one: what adding floats in another order makes."""

_NO_NOISE = 1e-70
"""Instead of 0, by which nothing can be divided; its fourth power is a number."""
_MOST_SHARED = 0.99
"""Differences are taken to correlate by no more."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]


def by_seed(rows: Sequence[Mapping[int, float]], baseline: int | None = None) -> Blocked:
    """Rows as a design.

    Args:
        rows: seed to score; at least two, all with the same seeds, at least two.
        baseline: index of the row that the others are held against, where there is one.
    """
    seeds = sorted(rows[0])
    scores = np.array([[row[seed] for seed in seeds] for row in rows], dtype=np.float64)
    return Blocked(scores, baseline, grain(row[seed] for row in rows for seed in seeds))


@dataclass(frozen=True)
class Blocked:
    """Scores of R ≥ 2 rows on the same N ≥ 2 seeds.

    Attributes:
        scores: [..., R, N]; leading axes are other tables of the same size.
        baseline: index of the row that the others are held against; None: there is none.
        grain: the step in which scores move; no spread is taken for smaller than it makes.
    """

    scores: Floats
    baseline: int | None = None
    grain: float = 0.0

    @property
    def df(self) -> Indices:
        """[...]: degrees of freedom of the pooled noise."""
        degrees: Indices = (np.sum(~self.aside, -1) - 1) * (self.scores.shape[-1] - 1)
        return degrees

    @cached_property
    def means(self) -> Floats:
        """[..., R]."""
        means: Floats = self.scores.mean(-1)
        return means

    @cached_property
    def noise(self) -> Floats:
        """[...]: standard deviation of a score, means of rows and seeds taken out; not below the grain's.

        Pooled over the rows that are not set aside.
        """
        noise: Floats = np.maximum(np.sqrt(self._squares(self.aside).sum(-1) / self.df), self._least)
        return noise

    @cached_property
    def aside(self) -> Flags:
        """[..., R]: the rows whose noise exceeds the others' grossly, so that it is not pooled with theirs.

        The noisiest is set aside and the others are looked at again, until they are even, or two: two rows have equal
        shares of what is left, whatever their noise.
        """
        rows = self.scores.shape[-2]
        aside = np.zeros(self.means.shape, bool)
        for _ in range(rows - 2):
            evenness = self._evenness(aside)
            uneven = evenness.min(-1, keepdims=True) < 1
            if not uneven.any():
                break
            aside |= uneven & (np.arange(rows) == evenness.argmin(-1)[..., None])
        return aside

    def _evenness(self, aside: Flags) -> Floats:
        """[..., R]: how likely each row's share of the noise or a larger one is where all rows have equal noise.

        In units of the level that it is tested at, so that a row below 1 is uneven. Of R rows with equal normal noise,
        a row's share of the sum of squares, times R / (R - 1), has the distribution
        Beta((N - 1) / 2, (R - 2)(N - 1) / 2). The baseline's is tested at :data:`UNEVEN_LEVEL`, since its noise is in
        all differences, the others' at the same level, adjusted by Bonferroni. Rows set aside count as even.
        """
        from scipy.special import betainc

        squares, seeds = self._squares(aside), self.scores.shape[-1]
        rows = np.sum(~aside, -1, keepdims=True)
        total = squares.sum(-1, keepdims=True)
        levels = np.broadcast_to(UNEVEN_LEVEL / rows, squares.shape).copy()
        if self.baseline is not None:
            levels[..., self.baseline] = UNEVEN_LEVEL
        seen = ~aside & (np.sqrt(total / (rows - 1) / (seeds - 1)) > self._least) & (rows > 2)
        shares = squares * rows / (rows - 1) / np.where(seen, total, 1.0)
        larger = betainc(np.maximum(rows - 2, 1) * (seeds - 1) / 2, (seeds - 1) / 2, np.clip(1 - shares, 0.0, 1.0))
        evenness: Floats = np.where(seen, larger / levels, 1.0)
        return evenness

    def p_values(self) -> list[float]:
        """Each row's p-value for its difference to the baseline, adjusted over the rows; of a single table, [R, N].

        The baseline's own is 1.
        """
        others, reference = self._rivals, np.array(self.baseline)
        alone = self._alone_p(reference, sides=2)[others]
        pair = self.beside_baseline
        t = (self.means - self.means[reference])[others] / (pair.noise * math.sqrt(2 / self.scores.shape[-1]))
        pooled = [p_value(float(one), len(others), float(pair.df), 2, float(pair.correlation)) for one in t]
        adjusted = np.where(self.aside[others], np.minimum(1.0, len(others) * alone), pooled)
        found = dict(zip(others, adjusted.tolist(), strict=True))
        return [found.get(row, 1.0) for row in range(len(self.scores))]

    def contrasts(self, pairs: Sequence[tuple[int, int]]) -> list[Difference]:
        """Differences of rows that were named beforehand; of a single table, [R, N].

        Each has its own t-interval; the p-values are adjusted by Holm over the pairs.

        Args:
            pairs: at least one; indices of a row and of the one that is taken from it.
        """
        from scipy.special import stdtr, stdtrit

        first, second = (np.array(side) for side in zip(*pairs, strict=True))
        differences = self.scores[first] - self.scores[second]
        seeds = differences.shape[-1]
        own = self.aside[first] | self.aside[second]
        spread = np.maximum(differences.std(-1, ddof=1), math.sqrt(2) * self._least)
        spread, df = np.where(own, spread, math.sqrt(2) * self.noise), np.where(own, seeds - 1, self.df)
        error = np.maximum(spread, np.finfo(float).tiny) / math.sqrt(seeds)
        means = differences.mean(-1)
        half = stdtrit(df, 0.5 + CONFIDENCE / 2) * error
        adjusted = holm(np.minimum(1.0, 2 * stdtr(df, -np.abs(means / error))))
        figures = zip(means, adjusted, means - half, means + half, strict=True)
        return [Difference(seeds, *(rounded(float(figure)) for figure in each)) for each in figures]

    def told_apart(self) -> Flags:
        """[..., R]: whether each row's p-value for its difference to the baseline is below :data:`LEVEL`."""
        others, seeds = self._rivals, self.scores.shape[-1]
        reference = np.full(self.means.shape[:-1], self.baseline)
        pair, alone = self.beside_baseline, critical(LEVEL / len(others), 1, seeds - 1, 2)
        t = np.abs(self._minus(reference).mean(-1)[..., others]) / (pair.noise * math.sqrt(2 / seeds))[..., None]
        noisy = self.aside[..., [self._baseline]]
        beyond = np.where(noisy, exceeds(LEVEL, t, len(others), 2, pair, noisy), t > self._critical(2)[..., None])
        told = np.zeros(self.means.shape, bool)
        own = np.abs(self._alone_t(reference)[..., others]) > alone
        told[..., others] = np.where(self.aside[..., others], own, beyond)
        return told

    def among_best(self, higher_is_better: bool) -> Flags:
        """[..., R]: whether each row has the best mean or cannot be told from the row that has it."""
        better, rivals = replace(self, scores=self.scores if higher_is_better else -self.scores), len(self._rows) - 1
        best = better.means.argmax(-1)
        below = better.means.max(-1, keepdims=True) - better.means
        own, pair = np.take_along_axis(self.aside, best[..., None], -1), self.beside
        t = below / (pair.noise * math.sqrt(2 / self.scores.shape[-1]))
        noisy = self.aside & ~own
        outside = np.where(noisy, exceeds(LEVEL, t, rivals, 1, pair, noisy), t > self._critical(1)[..., None])
        alike = np.where(own, rivals * better._alone_p(best, sides=1) >= LEVEL, ~outside)
        last = np.where(alike, better.means, np.inf).min(-1, keepdims=True)
        among: Flags = better.means >= last
        return among

    def _critical(self, sides: Sides) -> Floats:
        """[...]: Dunnett's t for all rivals at the pooled noise's degrees of freedom."""
        degrees, places = np.unique(self.df, return_inverse=True)
        found = [critical(LEVEL, self.scores.shape[-2] - 1, df, sides) for df in degrees.tolist()]
        values: Floats = np.array(found)[places.reshape(np.shape(self.df))]
        return values

    @property
    def _baseline(self) -> int:
        assert self.baseline is not None
        return self.baseline

    @property
    def beside_baseline(self) -> Pair:
        """:attr:`beside` of the baseline, [...] each."""
        return Pair(*(each[..., self._baseline] for each in self.beside))

    @cached_property
    def beside(self) -> Pair:
        """[..., R]: how even rows are held against each row: by the pooled noise, and by its own where it is aside."""
        seeds, even = self.scores.shape[-1], ~self.aside
        rows, noise = np.sum(even, -1, keepdims=True), np.maximum(self.noise, _NO_NOISE)[..., None]
        middle = np.where(even[..., None], self.scores, 0.0).sum(-2, keepdims=True) / rows[..., None]
        own = (self.scores - middle).var(-1, ddof=1)
        rest = (1 - 1 / rows) * noise**2
        variance = np.maximum(own + rest, noise**2)
        df = (seeds - 1) * variance**2 / (own**2 + rest**2 / (rows - 1))
        shared = np.minimum(1 - noise**2 / variance, _MOST_SHARED)
        return Pair(
            np.where(even, noise, np.sqrt(variance / 2)),
            np.where(even, self.df[..., None], df),
            np.where(even, 0.5, shared),
        )

    @property
    def _rows(self) -> range:
        return range(self.scores.shape[-2])

    @property
    def _rivals(self) -> list[int]:
        """The rows that are held against the baseline."""
        return [row for row in self._rows if row != self.baseline]

    @property
    def _least(self) -> float:
        """The smallest spread that scores of this grain can show: that of rounding to it."""
        return max(self.grain, _ROUNDING * float(np.abs(self.scores).max())) / math.sqrt(12)

    def _squares(self, aside: Flags) -> Floats:
        """[..., R]: each row's sum of squares of what is left of it beside the others; 0 of those set aside."""
        left = np.where(aside[..., None], 0.0, self.scores - self.means[..., None])
        left = left - left.sum(-2, keepdims=True) / np.sum(~aside, -1)[..., None, None]
        squares: Floats = np.where(aside, 0.0, (left**2).sum(-1))
        return squares

    def _minus(self, reference: Indices) -> Floats:
        """[..., R, N]: every row minus the row with the index that the table's entry of ``reference`` [...] names."""
        return self.scores - np.take_along_axis(self.scores, reference[..., None, None], -2)

    def _alone_p(self, reference: Indices, sides: int) -> Floats:
        """[..., R]: p of each row's paired t-test against the reference; one side asks whether the row is worse."""
        from scipy.special import stdtr

        t = self._alone_t(reference)
        p_values: Floats = np.minimum(1.0, sides * stdtr(self.scores.shape[-1] - 1, -np.abs(t) if sides == 2 else t))
        return p_values

    def _alone_t(self, reference: Indices) -> Floats:
        """[..., R]: each row's paired t statistic against the reference."""
        differences = self._minus(reference)
        spread = np.maximum(differences.std(-1, ddof=1), max(math.sqrt(2) * self._least, np.finfo(float).tiny))
        t: Floats = differences.mean(-1) / (spread / math.sqrt(differences.shape[-1]))
        return t
