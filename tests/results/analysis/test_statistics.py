"""The statistics against scipy, statsmodels and closed forms."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from results.analysis.statistics import best_set, holm, normalized_gain, paired_difference, ranks, summarize

DRAWS = [(n, seed) for n in (2, 3, 5, 20) for seed in range(5)]


def _draw(n: int, seed: int, center: float = 70.0) -> list[float]:
    source = random.Random(f"{n} {seed}")
    return [source.gauss(center, 2.0) for _ in range(n)]


def _by_seed(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


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


@pytest.mark.parametrize(("n", "seed"), DRAWS)
def test_the_paired_test_is_scipys(n: int, seed: int) -> None:
    first, second = _draw(n, seed), _draw(n, seed + 100, 71.0)
    found = paired_difference(_by_seed(first), _by_seed(second))
    assert found is not None and found.n == n
    assert found.mean == pytest.approx(sum(first) / n - sum(second) / n)
    assert found.p == pytest.approx(stats.ttest_rel(first, second).pvalue)


def test_pairs_are_the_seeds_that_both_have() -> None:
    found = paired_difference({0: 1.0, 1: 2.0, 5: 9.0}, {1: 1.0, 0: 0.5, 7: 100.0})
    assert found is not None and found.n == 2 and found.mean == pytest.approx(0.75)
    one = paired_difference({0: 1.0}, {0: 3.0})
    assert one is not None and (one.n, one.mean, one.p) == (1, -2.0, None)
    assert paired_difference({0: 1.0}, {1: 3.0}) is None


def test_differences_without_spread_leave_no_doubt() -> None:
    shifted = paired_difference({0: 70.1, 1: 71.3, 2: 72.7}, {0: 69.1, 1: 70.3, 2: 71.7})
    equal = paired_difference({0: 70.1, 1: 71.3}, {0: 70.1, 1: 71.3})
    assert shifted is not None and shifted.p == 0.0
    assert equal is not None and (equal.mean, equal.p) == (0.0, 1.0)


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_holm_is_statsmodels(count: int) -> None:
    source = random.Random(count)
    for _ in range(5):
        p_values = [source.random() ** 3 for _ in range(count)]
        assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


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


def test_the_best_set_holds_what_cannot_be_told_from_the_best() -> None:
    best, near = {0: 80.0, 1: 81.0, 2: 82.0}, {0: 80.5, 1: 80.2, 2: 81.0}
    far = {0: 70.0, 1: 71.1, 2: 72.0}
    assert best_set([far, best, near], higher_is_better=True) == {1, 2}
    assert best_set([far, best, near], higher_is_better=False) == {0}
    assert best_set([], True) == set()


def test_adjustment_in_the_best_set_counts_the_rivals() -> None:
    best = {0: 80.0, 1: 80.0, 2: 80.0}
    rival = {0: 79.0, 1: 78.0, 2: 78.5}
    p = stats.ttest_rel(list(best.values()), list(rival.values())).pvalue
    assert p < 0.05 < 2 * p
    assert best_set([best, rival], True) == {0}
    assert best_set([best, rival, rival], True) == {0, 1, 2}


def test_single_seeds_are_best_only_when_equal() -> None:
    assert best_set([{0: 70.0}, {0: 70.0}, {0: 69.9}], True) == {0, 1}
