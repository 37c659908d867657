"""Rows × seeds: against scipy, statsmodels' two-way analysis of variance, and what must hold of any table."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests

from results.analysis.blocked import Blocked, Floats, by_seed
from results.analysis.dunnett import critical, p_value
from results.analysis.holm import holm


def drawn(rows: int, seeds: int, seed: int, noise: float | Floats = 1.0, better: float = 0.0) -> Floats:
    source = np.random.default_rng(seed)
    scores = 70 + 3 * source.normal(size=seeds) + np.reshape(noise, (-1, 1)) * source.normal(size=(rows, seeds))
    scores[1] += better
    return scores


def uneven(seed: int = 1, wild: int = 2) -> Blocked:
    noise = np.full(4, 0.2)
    noise[wild] = 20.0
    return Blocked(drawn(4, 6, seed, noise, better=3.0), 0)


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_two_rows_are_a_paired_t_test(seeds: int) -> None:
    for seed in range(5):
        scores = drawn(2, seeds, seed, better=1.0)
        found = Blocked(scores, 0)
        assert found.p_values() == pytest.approx([1.0, stats.ttest_rel(scores[1], scores[0]).pvalue], rel=1e-6)
        one_sided = stats.ttest_rel(*scores[np.argsort(-scores.mean(-1))], alternative="greater").pvalue
        assert found.among_best(True).all() == (one_sided >= 0.05)


@pytest.mark.parametrize(("rows", "seeds"), [(3, 3), (6, 3), (5, 10)])
def test_the_noise_is_that_of_a_two_way_analysis_of_variance(rows: int, seeds: int) -> None:
    scores = drawn(rows, seeds, rows)
    long = pd.DataFrame([(r, s, scores[r, s]) for r in range(rows) for s in range(seeds)], columns=["row", "seed", "y"])
    residual = anova_lm(ols("y ~ C(row) + C(seed)", long).fit()).loc["Residual"]
    found = Blocked(scores)
    assert found.df == residual["df"] and found.noise**2 == pytest.approx(residual["mean_sq"])


def test_p_is_dunnetts_with_the_seeds_taken_out() -> None:
    """On noise alone scipy's one-way test has the same statistic but for its degrees of freedom."""
    scores = drawn(4, 8, 3)
    scores = scores - scores.mean(0) + 70  # seeds' means equal: taking them out changes the degrees of freedom alone
    found = Blocked(scores, 0)
    assert not found.aside.any()
    one_way = stats.dunnett(*scores[1:], control=scores[0], random_state=0)
    t = np.asarray(one_way.statistic) * np.sqrt(21 / 28)  # (R - 1)(N - 1) of R (N - 1)
    assert found.p_values()[1:] == pytest.approx([p_value(one, 3, 21, 2) for one in t], rel=1e-5)
    assert [p_value(one, 3, 28, 2) for one in one_way.statistic] == pytest.approx(one_way.pvalue, abs=2e-3)


def test_who_is_told_apart_is_who_has_a_small_p() -> None:
    for seed in range(40):
        for table in (Blocked(drawn(4, 3, seed, better=3.0), 0), uneven(seed), uneven(seed, wild=0)):
            assert [bool(told) for told in table.told_apart()] == [p < 0.05 for p in table.p_values()]


def test_tables_drawn_together_are_judged_as_if_alone() -> None:
    scores = np.stack([drawn(4, 5, 0), drawn(4, 5, 2, better=4.0), *(uneven(1, wild).scores[:, :5] for wild in (1, 2))])
    together = Blocked(scores, 2)
    assert (
        together.aside.any(-1).tolist() == [False, False, True, True] and together.aside[2, 1] and together.aside[3, 2]
    )
    for place, alone in enumerate(Blocked(one, 2) for one in scores):
        assert (together.aside[place] == alone.aside).all() and together.noise[place] == pytest.approx(alone.noise)
        assert (together.told_apart()[place] == alone.told_apart()).all()
        assert (together.among_best(False)[place] == alone.among_best(False)).all()


def test_among_the_best_is_within_one_distance_of_the_best_mean() -> None:
    found = Blocked(drawn(5, 4, 0, better=1.0))
    distance = critical(0.05, 4, 12, 1) * found.noise * np.sqrt(2 / 4)
    expected = found.means >= found.means.max() - distance
    assert (found.among_best(True) == expected).all() and 1 < expected.sum() < 5
    mirrored = Blocked(-found.scores)
    assert (mirrored.among_best(higher_is_better=False) == expected).all()


@pytest.mark.parametrize("noise", ["equal", "uneven"])
def test_the_best_are_always_a_top_segment(noise: str) -> None:
    seen = set()
    for seed in range(60):
        source = np.random.default_rng(seed)
        sigma = np.exp(2.5 * source.normal(size=6)) if noise == "uneven" else np.ones(6)
        found = Blocked(drawn(6, 4, seed, sigma) + source.normal(size=(6, 1)))
        among = found.among_best(True)[np.argsort(-found.means)]
        assert among[0] and (np.diff(among.astype(int)) <= 0).all()
        seen.add(bool(found.aside.any()))
    assert seen == ({True, False} if noise == "uneven" else seen)


def test_a_grossly_noisy_row_is_tested_alone_and_the_others_as_if_it_were_not_there() -> None:
    """But for the number of rivals, which it counts among."""
    found, rest = uneven(), Blocked(np.delete(uneven().scores, 2, 0), 0)
    assert list(found.aside) == [False, False, True, False]
    assert found.df == rest.df == 10 and found.noise == pytest.approx(rest.noise)
    t = (rest.means - rest.means[0]) / (rest.noise * np.sqrt(2 / 6))
    alone = stats.ttest_rel(found.scores[2], found.scores[0]).pvalue
    expected = [p_value(t[1], 3, 10, 2), min(1.0, 3 * alone), p_value(t[2], 3, 10, 2)]
    assert found.p_values()[1:] == pytest.approx(expected)


def test_a_grossly_noisy_baseline_is_in_all_differences_and_counts_once() -> None:
    """With next to no noise in other rows, their differences to it are one and the same question: one paired t-test."""
    found = uneven(wild=0)
    assert list(found.aside) == [True, False, False, False]
    pair = found.beside_baseline
    middle = found.scores[1:].mean(0)
    own = np.var(found.scores[0] - middle, ddof=1)
    assert 2 * pair.noise**2 == pytest.approx(own + 2 / 3 * found.noise**2)
    assert 5 <= pair.df < 5.01 and pair.correlation == pytest.approx(0.99)
    for row in (1, 2, 3):
        alone = stats.ttest_rel(found.scores[row], found.scores[0]).pvalue
        assert alone == pytest.approx(found.p_values()[row], rel=0.15) and found.p_values()[row] > 0.99 * alone


def test_a_noisy_baselines_variance_and_degrees_are_those_of_its_differences() -> None:
    """Over tables drawn: V is what differences to it have, and so is the spread of V itself."""
    sigma = np.array([[2.0], [1], [1], [1], [1], [1]])
    scores = sigma * np.random.default_rng(0).normal(size=(40_000, 6, 6))
    drawn = Blocked(scores, 0)
    pair, noisy = drawn.beside_baseline, drawn.aside[:, 0] & (drawn.aside.sum(-1) == 1)
    everywhere = Blocked(scores, 0)
    everywhere.__dict__["aside"] = np.broadcast_to(np.arange(6) == 0, (*noisy.shape, 6))  # no choice by what is seen
    fixed = everywhere.beside_baseline
    assert (2 * fixed.noise**2).mean() == pytest.approx(5.0, rel=0.02)
    assert (2 * fixed.noise**2).var() == pytest.approx(2 * 25 / np.median(fixed.df), rel=0.1)
    assert np.median(fixed.correlation) == pytest.approx(0.8, abs=0.03)
    assert noisy.mean() > 0.4 and np.array_equal(pair.noise[noisy], fixed.noise[noisy])


def test_rows_are_set_aside_until_what_is_left_is_even() -> None:
    source = np.random.default_rng(0)
    noise = np.array([[1.0], [1], [1], [1], [10], [50]])
    some = [np.flatnonzero(Blocked(noise * source.normal(size=(6, 8)), 0).aside).tolist() for _ in range(20)]
    assert sum(found == [4, 5] for found in some) >= 17 and all({4, 5} <= set(found) for found in some)
    three = Blocked(np.array([[1.0], [10], [100]]) * source.normal(size=(3, 8)), 0)
    assert list(three.aside) == [False, False, True]  # the two that are left have equal shares, whatever their noise


def test_rows_that_are_even_are_compared_by_their_noise_whatever_the_row_that_is_set_aside() -> None:
    found = uneven()
    rest = Blocked(np.delete(found.scores, 2, 0), 0)
    pooled, alone = found.contrasts([(1, 3), (2, 1)])
    (expected,) = rest.contrasts([(1, 2)])
    assert (pooled.mean, pooled.low, pooled.high) == pytest.approx((expected.mean, expected.low, expected.high))
    own = stats.ttest_rel(found.scores[2], found.scores[1]).confidence_interval()
    assert (alone.low, alone.high) == pytest.approx(tuple(own))


def test_uneven_rows_reach_down_to_the_last_that_cannot_be_told_from_the_best() -> None:
    steady = np.array([0.0, 0.1, -0.1, 0.05, -0.05, 0.0])
    wild = np.array([30.0, -30.0, 25.0, -25.0, 0.0, 0.0])
    scores = np.stack([80 + steady, 75 - steady, 74 + wild, 70 + 2 * steady])
    found = Blocked(scores)
    assert list(found.aside) == [False, False, True, False]
    assert list(found.among_best(True)) == [True, True, True, False]  # the second alone would be told from the first
    assert stats.ttest_rel(scores[0], scores[1]).pvalue < 0.001


def test_the_share_of_the_noisiest_row_has_the_distribution_that_is_said() -> None:
    source = np.random.default_rng(0)
    for rows, seeds in ((3, 3), (6, 4)):
        scores = source.normal(size=(20_000, rows, seeds))
        assert 0.04 < Blocked(scores).aside.any(-1).mean() < 0.052
        assert 0.06 < Blocked(scores, 0).aside.any(-1).mean() < 0.1


def test_a_noisy_baseline_is_noticed_sooner_than_another_row() -> None:
    """Its noise is in every difference, and would make any of them seem real."""
    scores = np.random.default_rng(0).normal(size=(5_000, 6, 5)) * np.array([[3.0], [1], [1], [1], [1], [1]])
    assert Blocked(scores, 0).aside[:, 0].mean() > Blocked(scores, 1).aside[:, 0].mean() + 0.1 > 0.6


def test_a_coincidence_of_coarse_scores_is_no_certainty() -> None:
    """Top-1 on 2,000 images, two seeds, the same difference twice: once p was 0."""
    found = by_seed([{0: 88.05, 1: 88.10}, {0: 88.00, 1: 88.05}], baseline=1)
    t = 0.05 / (0.05 / np.sqrt(12) * np.sqrt(2 / 2))
    assert found.p_values()[0] == pytest.approx(2 * stats.t.sf(t, 1), rel=1e-6) and found.p_values()[0] > 0.15
    assert found.among_best(True).all()


def test_coarse_scores_do_not_raise_the_error() -> None:
    source = np.random.default_rng(0)
    scores = np.round(source.normal(scale=0.05, size=(20_000, 2, 2)) / 0.05) * 0.05
    assert Blocked(scores, 0, 0.05).told_apart().any(-1).mean() < 0.055
    assert Blocked(scores, 0).told_apart().any(-1).mean() > 0.1  # without the grain it is wrong twice as often


def test_no_spread_and_no_difference_is_no_finding() -> None:
    same = Blocked(np.full((3, 3), 71.123456), 0)
    assert same.p_values() == [1.0, 1.0, 1.0] and same.among_best(True).all() and not same.aside.any()
    assert Blocked(np.zeros((2, 3)), 0).p_values() == [1.0, 1.0]
    shifted = Blocked(np.array([[0.1, 0.3, 0.7], [1.1, 1.3, 1.7]]) * np.pi, 0)
    assert 0 < shifted.p_values()[1] < 1e-12  # the same to nine digits, three times, is no chance


@pytest.mark.parametrize("count", [1, 2, 10])
def test_holm_is_statsmodels(count: int) -> None:
    source = random.Random(count)
    p_values = [source.random() ** 3 for _ in range(count)]
    assert list(holm(np.array(p_values))) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


def test_holm_by_hand() -> None:
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert list(holm(np.array([0.9, 0.8]))) == [1.0, 1.0] and list(holm(np.array([]))) == []
