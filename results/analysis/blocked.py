"""Rows compared over the seeds that all have: the randomised complete block design, rows × seeds.

A seed makes all rows better or worse together; what is left when the means of rows and seeds are taken out is the
noise, and it is pooled over the rows: (R - 1)(N - 1) degrees of freedom instead of the N - 1 of two rows alone.

- Differences to a baseline: Dunnett's two-sided test.
- Among the best: Hsu's comparisons with the best. A row is told from the best where its mean lies further below the
  best mean than Dunnett's one-sided critical value allows; this is one distance for all rows, so who is among the best
  is a top segment of the ranking. The row that is best in truth is among them with 95 % probability.
- Rows and their controls, named beforehand: a t-test each, adjusted by Holm.
- Where a row's noise exceeds the others' grossly (:attr:`Blocked.uneven`), pooling would be wrong: each pair of rows is
  tested by itself, with the spread of its own differences (paired t), adjusted by Holm for the differences and by
  Bonferroni for the best. Rows among the best then reach down to the last one that cannot be told from the best.

Sources: Dunnett, JASA 50 (1955); Hsu, Multiple Comparisons (1996), chapters 3 to 5; Holm, Scandinavian Journal of
Statistics 6 (1979).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from results.analysis.dunnett import critical, p_value
from results.analysis.grain import grain
from results.analysis.statistics import CONFIDENCE, Difference, rounded

LEVEL = 0.05
"""Two means are told apart when the p-value is below this."""
UNEVEN_LEVEL = 0.05
"""How often the baseline, or any row, is taken for one with more noise than the others where all have the same."""
_ROUNDING = 1e-9
"""Grain, relative to the scores, of scores without a visible one: what adding floats in another order makes."""

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
    def df(self) -> int:
        """Degrees of freedom of the pooled noise."""
        rows, seeds = self.scores.shape[-2:]
        return int(rows - 1) * int(seeds - 1)

    @cached_property
    def means(self) -> Floats:
        """[..., R]."""
        means: Floats = self.scores.mean(-1)
        return means

    @cached_property
    def noise(self) -> Floats:
        """[...]: standard deviation of a score, means of rows and seeds taken out; not below the grain's."""
        noise: Floats = np.maximum(np.sqrt(self._squares.sum(-1) / self.df), self._least)
        return noise

    @property
    def uneven(self) -> Flags:
        """[...]: whether a row's noise exceeds the others' grossly, so that nothing is pooled."""
        uneven: Flags = self._evenness.min(-1) < 1
        return uneven

    @property
    def noisiest(self) -> Indices:
        """[...]: index of the row whose noise exceeds the others' most."""
        place: Indices = self._evenness.argmin(-1)
        return place

    @cached_property
    def _evenness(self) -> Floats:
        """[..., R]: how likely each row's share of the noise or a larger one is where all rows have equal noise.

        In units of the level that it is tested at, so that a row below 1 is uneven. Of R rows with equal normal noise,
        a row's share of the sum of squares, times R / (R - 1), has the distribution
        Beta((N - 1) / 2, (R - 2)(N - 1) / 2). The baseline's is tested at :data:`UNEVEN_LEVEL`, since its noise is in
        all differences, the others' at the same level, adjusted by Bonferroni. Two rows have equal shares whatever
        their noise; their test does not pool.
        """
        from scipy.special import betainc

        rows, seeds = self.scores.shape[-2:]
        total = self._squares.sum(-1, keepdims=True)
        levels = np.full(rows, UNEVEN_LEVEL / rows)
        if self.baseline is not None:
            levels[self.baseline] = UNEVEN_LEVEL
        seen = (np.sqrt(total / self.df) > self._least) & (rows > 2)
        shares = self._squares * rows / (rows - 1) / np.where(seen, total, 1.0)
        larger = betainc(max(rows - 2, 1) * (seeds - 1) / 2, (seeds - 1) / 2, np.clip(1 - shares, 0.0, 1.0))
        evenness: Floats = np.where(seen, larger / levels, 1.0)
        return evenness

    def p_values(self) -> list[float]:
        """Each row's p-value for its difference to the baseline, adjusted over the rows; of a single table, [R, N].

        The baseline's own is 1.
        """
        others, reference = self._rivals, np.array(self.baseline)
        if self.uneven:
            adjusted = holm(self._alone_p(reference, sides=2)[others])
        else:
            t = self._pooled_t(reference)
            adjusted = np.array([p_value(float(t[row]), len(others), self.df, 2) for row in others])
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
        if self.uneven:
            spread, df = np.maximum(differences.std(-1, ddof=1), math.sqrt(2) * self._least), seeds - 1
        else:
            spread, df = np.full(len(pairs), math.sqrt(2) * self.noise), self.df
        error = np.maximum(spread, np.finfo(float).tiny) / math.sqrt(seeds)
        means = differences.mean(-1)
        half = stdtrit(df, 0.5 + CONFIDENCE / 2) * error
        adjusted = holm(np.minimum(1.0, 2 * stdtr(df, -np.abs(means / error))))
        figures = zip(means, adjusted, means - half, means + half, strict=True)
        return [Difference(seeds, *(rounded(float(figure)) for figure in each)) for each in figures]

    def told_apart(self) -> Flags:
        """[..., R]: whether each row's p-value for its difference to the baseline is below :data:`LEVEL`."""
        others = self._rivals
        reference = np.full(self.means.shape[:-1], self.baseline)
        told = np.zeros(self.means.shape, bool)
        pooled = np.abs(self._pooled_t(reference)[..., others]) > critical(LEVEL, len(others), self.df, 2)
        alone = holm(self._alone_p(reference, sides=2)[..., others]) < LEVEL
        told[..., others] = np.where(self.uneven[..., None], alone, pooled)
        return told

    def among_best(self, higher_is_better: bool) -> Flags:
        """[..., R]: whether each row has the best mean or cannot be told from the row that has it."""
        rivals = self.scores.shape[-2] - 1
        better = replace(self, scores=self.scores if higher_is_better else -self.scores)
        best = better.means.argmax(-1)
        inside = -better._pooled_t(best) <= critical(LEVEL, rivals, self.df, 1)
        alike = rivals * better._alone_p(best, sides=1) >= LEVEL
        last = np.where(alike, better.means, np.inf).min(-1, keepdims=True)
        return np.where(self.uneven[..., None], better.means >= last, inside)

    @property
    def _rivals(self) -> list[int]:
        """The rows that are held against the baseline."""
        return [row for row in range(self.scores.shape[-2]) if row != self.baseline]

    @property
    def _least(self) -> float:
        """The smallest spread that scores of this grain can show: that of rounding to it."""
        return max(self.grain, _ROUNDING * float(np.abs(self.scores).max())) / math.sqrt(12)

    @cached_property
    def _squares(self) -> Floats:
        """[..., R]: each row's sum of squares of what is left of it."""
        left = self.scores - self.means[..., None] - self.scores.mean(-2, keepdims=True)
        left = left + self.scores.mean((-2, -1), keepdims=True)
        squares: Floats = (left**2).sum(-1)
        return squares

    def _minus(self, reference: Indices) -> Floats:
        """[..., R, N]: every row minus the row with the index that the table's entry of ``reference`` [...] names."""
        return self.scores - np.take_along_axis(self.scores, reference[..., None, None], -2)

    def _pooled_t(self, reference: Indices) -> Floats:
        """[..., R]: differences to the reference in units of their pooled standard error."""
        error = np.maximum(self.noise * math.sqrt(2 / self.scores.shape[-1]), np.finfo(float).tiny)
        t: Floats = self._minus(reference).mean(-1) / error[..., None]
        return t

    def _alone_p(self, reference: NDArray[np.intp], sides: int) -> Floats:
        """[..., R]: p of each row's paired t-test against the reference; one side asks whether the row is worse."""
        from scipy.special import stdtr

        seeds = self.scores.shape[-1]
        differences = self._minus(reference)
        spread = np.maximum(differences.std(-1, ddof=1), max(math.sqrt(2) * self._least, np.finfo(float).tiny))
        t = differences.mean(-1) / (spread / math.sqrt(seeds))
        p_values: Floats = np.minimum(1.0, sides * stdtr(seeds - 1, -np.abs(t) if sides == 2 else t))
        return p_values


def holm(p_values: Floats) -> Floats:
    """Holm's step-down adjustment of p-values that are looked at together: along the last axis, in the order given."""
    order = np.argsort(p_values, axis=-1, kind="stable")
    steps = np.arange(p_values.shape[-1], 0, -1) * np.take_along_axis(p_values, order, -1)
    adjusted = np.empty_like(p_values)
    np.put_along_axis(adjusted, order, np.maximum.accumulate(np.minimum(steps, 1.0), -1), -1)
    return adjusted
