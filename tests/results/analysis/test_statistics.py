"""The statistics of the tables against scipy and closed forms."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from results.analysis.statistics import Difference, normalized_gain, paired_difference, ranks, summarize

DRAWS = [(n, seed) for n in (2, 3, 5, 20) for seed in range(5)]


def _draw(n: int, seed: int, center: float = 70.0) -> list[float]:
    source = random.Random(f"{n} {seed}")
    return [source.gauss(center, 2.0) for _ in range(n)]


@pytest.mark.parametrize(("n", "seed"), DRAWS)
def test_mean_std_and_interval_are_scipys(n: int, seed: int) -> None:
    values = _draw(n, seed)
    found = summarize(values)
    assert found is not None and found.n == n
    assert found.mean == pytest.approx(sum(values) / n)
    assert found.std == pytest.approx(stats.tstd(values))
    interval = stats.t.interval(0.95, n - 1, loc=sum(values) / n, scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(interval)


def test_the_interval_of_two_values_in_closed_form() -> None:
    """With one degree of freedom t is Cauchy: its 97.5 % quantile is tan(0.475 pi)."""
    found = summarize([1.0, 3.0])
    assert found is not None and found.std == pytest.approx(math.sqrt(2))
    assert found.high == pytest.approx(2 + math.tan(0.475 * math.pi))


def test_one_value_has_no_spread_and_none_has_nothing() -> None:
    one = summarize([4.0])
    assert one is not None and (one.n, one.mean, one.std, one.low, one.high) == (1, 4.0, None, None, None)
    assert summarize([]) is None


def test_pairs_are_the_seeds_that_both_have() -> None:
    assert paired_difference({0: 1.0, 1: 2.0, 5: 9.0}, {1: 1.0, 0: 0.5, 7: 100.0}) == Difference(2, 0.75)
    assert paired_difference({0: 1.0}, {0: 3.0}) == Difference(1, -2.0)
    assert paired_difference({0: 1.0}, {1: 3.0}) is None


@pytest.mark.parametrize("seed", range(10))
def test_ranks_are_scipys_with_ties_shared(seed: int) -> None:
    values = [float(random.Random(f"{seed} {i}").randint(0, 4)) for i in range(8)]
    assert ranks(values, higher_is_better=False) == list(stats.rankdata(values))
    assert ranks(values, higher_is_better=True) == list(stats.rankdata([-value for value in values]))


def test_gain_in_closed_form() -> None:
    assert normalized_gain(75.0, 70.0, 80.0, True) == pytest.approx(0.5)
    assert normalized_gain(69.0, 70.0, 80.0, True) == pytest.approx(-0.1)
    assert normalized_gain(75.0, 70.0, 70.05, True) is None
    assert normalized_gain(0.0, 0.0, 0.0, True) is None


def test_gain_is_positive_where_the_method_is_better_whichever_direction_is_the_better_one() -> None:
    assert normalized_gain(20.0, 30.0, 10.0, False) == pytest.approx(0.5)
    assert normalized_gain(32.0, 30.0, 10.0, False) == pytest.approx(-0.1)
    for method in (5.0, 25.0, 50.0):  # the teacher is worse than the baseline: there is no way to go
        assert normalized_gain(method, 30.0, 40.0, False) is None
        assert normalized_gain(method, 30.0, 20.0, True) is None
