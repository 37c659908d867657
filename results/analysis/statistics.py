"""The statistics of the tables: plain functions on lists of numbers.

Imports only ``scipy.special``, where it is needed: ``scipy.stats`` takes most of a second to load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
_DIGITS = 9


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
    """A comparison of two rows over the seeds that both have.

    Attributes:
        n: number of seeds.
        mean: mean of (first - second).
        p: its p-value, adjusted for what is looked at together; None where nothing was tested.
        low: lower end of its own 95 % interval; None where none was computed.
        high: its upper end.
    """

    n: int
    mean: float
    p: float | None = None
    low: float | None = None
    high: float | None = None


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
    """The mean difference of two rows over the seeds that both have, untested; None when no seed is shared.

    Args:
        first: seed to value.
        second: seed to value.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    return Difference(len(seeds), math.fsum(first[seed] - second[seed] for seed in seeds) / len(seeds))


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


def rounded(value: float) -> float:
    """A value to nine significant digits: what processors may compute otherwise stays out of tables."""
    return float(f"{value:.{_DIGITS}g}")


def ranks(values: Sequence[float], higher_is_better: bool) -> list[float]:
    """Ranks from 1 (best); equal values share the mean of their ranks."""
    sign = -1.0 if higher_is_better else 1.0
    keys = [sign * value for value in values]
    return [sum(k < key for k in keys) + (sum(k == key for k in keys) + 1) / 2 for key in keys]


def _std(values: Sequence[float], mean: float) -> float:
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
