"""The statistics of the tables: plain functions on lists of numbers.

Imports only ``scipy.special``, where it is needed: ``scipy.stats`` takes most of a second to load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEVEL = 0.05
"""Two means are told apart when the p-value is below this."""
CONFIDENCE = 0.95

_ROUNDING = 1e-9
"""Spread, relative to the values, below which numbers count as equal: what adding floats in another order makes."""


@dataclass(frozen=True)
class Summary:
    """Several seeds of one quantity.

    Attributes:
        n: how many.
        mean: their mean.
        std: standard deviation with ddof 1; None for one value.
        low: lower end of the 95 % t-interval of the mean; None for one value.
        high: its upper end.
    """

    n: int
    mean: float
    std: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """A paired comparison of two rows over the seeds that both have.

    Attributes:
        n: number of pairs.
        mean: mean of (first - second).
        p: two-sided p-value of the paired t-test; None for fewer than two pairs.
    """

    n: int
    mean: float
    p: float | None


def summarize(values: Sequence[float]) -> Summary | None:
    """Mean, standard deviation and 95 % interval; None for no values."""
    n = len(values)
    if n == 0:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return Summary(1, mean, None, None, None)
    from scipy.special import stdtrit

    std = _std(values, mean)
    half = float(stdtrit(n - 1, 0.5 + CONFIDENCE / 2)) * std / math.sqrt(n)
    return Summary(n, mean, std, mean - half, mean + half)


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference | None:
    """Compare two rows seed by seed.

    Differences that do not vary at all leave no doubt: p is 1 when they are zero, else 0.

    Args:
        first: seed to value.
        second: seed to value.

    Returns:
        None when no seed is shared.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    differences = [first[seed] - second[seed] for seed in seeds]
    n = len(differences)
    mean = math.fsum(differences) / n
    if n == 1:
        return Difference(1, mean, None)
    std = _std(differences, mean)
    scale = max(max(abs(first[seed]), abs(second[seed])) for seed in seeds)
    if std <= _ROUNDING * scale:
        return Difference(n, mean, 1.0 if abs(mean) <= _ROUNDING * scale else 0.0)
    from scipy.special import stdtr

    t = abs(mean) / (std / math.sqrt(n))
    return Difference(n, mean, min(1.0, 2.0 * float(stdtr(n - 1, -t))))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of p-values that are looked at together, in the order given.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    count = len(p_values)
    adjusted = [0.0] * count
    reached = 0.0
    for rank, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        reached = max(reached, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = reached
    return adjusted


def best_set(rows: Sequence[Mapping[int, float]], higher_is_better: bool) -> set[int]:
    """Which rows are best or cannot be told from the best.

    The row with the best mean is in; so is every row whose paired t-test against it, Holm-adjusted over these
    comparisons, gives p >= 0.05. A row that cannot be tested (fewer than two shared seeds) is in only if its mean
    equals the best.

    Args:
        rows: seed to value, for each row; none of them empty.
        higher_is_better: the direction.

    Returns:
        Indices of the rows; empty for no rows.
    """
    if not rows:
        return set()
    sign = 1.0 if higher_is_better else -1.0
    means = [sign * math.fsum(row.values()) / len(row) for row in rows]
    best = max(range(len(rows)), key=lambda i: means[i])
    inside = {i for i in range(len(rows)) if means[i] >= means[best]}
    rivals: list[int] = []
    p_values: list[float] = []
    for index, row in enumerate(rows):
        difference = paired_difference(rows[best], row) if index not in inside else None
        if difference is not None and difference.p is not None:
            rivals.append(index)
            p_values.append(difference.p)
    adjusted = holm(p_values)
    return inside | {index for index, p in zip(rivals, adjusted, strict=True) if p >= LEVEL}


def normalized_gain(method: float, none: float, teacher: float, higher_is_better: bool) -> float | None:
    """How much of the way from the baseline to the teacher a method goes: (method - none) / (teacher - none).

    It is positive where the method is better than the baseline, whichever direction is the better one.

    Returns:
        None where there is no way to go: the teacher is not better than the baseline, or by so little that the ratio
        says nothing (0.1 % of the larger of the two).
    """
    way = teacher - none
    if (way if higher_is_better else -way) <= 1e-3 * max(abs(teacher), abs(none)):
        return None
    return (method - none) / way


def ranks(values: Sequence[float], higher_is_better: bool) -> list[float]:
    """Ranks from 1 (best); equal values share the mean of their ranks."""
    sign = -1.0 if higher_is_better else 1.0
    keys = [sign * value for value in values]
    return [sum(k < key for k in keys) + (sum(k == key for k in keys) + 1) / 2 for key in keys]


def _std(values: Sequence[float], mean: float) -> float:
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
