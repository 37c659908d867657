"""The power of the tables' tests: against scipy's noncentral t, statsmodels' paired t-test, and tables drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from results.analysis.blocked import Blocked
from results.analysis.dunnett import critical
from results.analysis.power import POWER, Contrast, found

PAIRED = TTestPower()


@pytest.mark.parametrize("df", [1, 2, 4, 12, 60, 1000, 11000])
def test_it_is_the_tail_of_a_noncentral_t(df: int) -> None:
    for rivals in (1, 11):
        t = critical(0.05, rivals, df, 2)
        for shift in (0.8 * t, t, t + 1, 1.5 * t + 2):
            assert found(shift, t, df) == pytest.approx(stats.nct.sf(t, df, shift), abs=1e-6)


@pytest.mark.parametrize("seeds", [2, 3, 5, 30])
def test_two_rows_have_the_power_of_a_paired_t_test(seeds: int) -> None:
    """statsmodels takes differences in units of their own standard deviation, which is √2 of a score's."""
    for difference in (1.0, 2.0, 6.0):
        expected = PAIRED.power(difference / (0.7 * math.sqrt(2)), seeds, 0.025, alternative="larger")
        assert Contrast(1, 1).power(difference, 0.7, seeds) == pytest.approx(expected, abs=1e-5)


def test_the_smallest_difference_is_told_at_80_percent() -> None:
    for contrast in (Contrast(1, 1), Contrast(6, 6), Contrast.alone(6)):
        for seeds in (2, 3, 10):
            smallest = contrast.smallest(0.5, seeds)
            assert contrast.power(smallest, 0.5, seeds) == pytest.approx(POWER, abs=1e-6)
            assert contrast.smallest(1.0, seeds) == pytest.approx(2 * smallest)


@pytest.mark.parametrize("difference", [0.4, 1.0, 3.0])
def test_seeds_needed_are_those_of_a_paired_t_test(difference: float) -> None:
    exact = PAIRED.solve_power(difference / math.sqrt(2), None, 0.05, POWER, alternative="two-sided")
    assert Contrast(1, 1).seeds_needed(difference, 1.0, most=1000) == math.ceil(float(exact))


def test_more_seeds_than_are_looked_for_are_none() -> None:
    needed = Contrast(4, 4).seeds_needed(0.5, 1.0, most=1000)
    assert needed is not None
    assert Contrast(4, 4).power(0.5, 1.0, needed) >= POWER > Contrast(4, 4).power(0.5, 1.0, needed - 1)
    assert Contrast(4, 4).seeds_needed(0.5, 1.0, most=needed) == needed
    assert Contrast(4, 4).seeds_needed(0.5, 1.0, most=needed - 1) is None


def test_rows_that_are_tested_alone_are_held_to_the_level_of_holms_first_step() -> None:
    """What has exactly the half width has p = 0.05 after Holm's adjustment, where it is the most striking of five."""
    half = Contrast.alone(5).half_width(0.3, 4)
    t = half / (0.3 * math.sqrt(2 / 4))
    assert 5 * 2 * stats.t.sf(t, 3) == pytest.approx(0.05)


def test_the_interval_of_the_noise_is_that_of_chi_squared() -> None:
    low, high = Contrast(4, 4).noise_interval(0.8, 3)
    assert 8 * 0.8**2 / low**2 == pytest.approx(stats.chi2.ppf(0.975, 8))
    assert 8 * 0.8**2 / high**2 == pytest.approx(stats.chi2.ppf(0.025, 8))


def test_tables_that_are_drawn_tell_the_smallest_difference_in_four_of_five() -> None:
    rows, seeds, tables = 6, 5, 4000
    contrast = Contrast(rows - 1, rows - 1)
    draw = np.random.default_rng(0)
    scores = 70 + 3 * draw.normal(size=(tables, 1, seeds)) + 0.4 * draw.normal(size=(tables, rows, seeds))
    scores[:, 1] += contrast.smallest(0.4, seeds)
    means, df = scores.mean(-1, keepdims=True), (rows - 1) * (seeds - 1)
    left = scores - means - scores.mean(-2, keepdims=True) + scores.mean((-2, -1), keepdims=True)
    noise = np.sqrt((left**2).sum((-2, -1)) / df)
    told = (means[:, 1, 0] - means[:, 0, 0]) / noise * math.sqrt(seeds / 2) > critical(0.05, rows - 1, df, 2)
    assert told.mean() == pytest.approx(POWER, abs=4 * math.sqrt(POWER * (1 - POWER) / tables))
    # a table in twelve takes equal noise for uneven, and then pools less: the price that simulate.py measures
    assert Blocked(scores, 0).told_apart()[:, 1].mean() == pytest.approx(POWER, abs=0.05)
