"""Dunnett's distribution against Student's, scipy's multivariate t, closed forms and the published tables."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from results.analysis.dunnett import critical, p_value

TWO_SIDED = {5: (2.57, 3.03, 3.29, 3.48, 3.62), 10: (2.23, 2.57, 2.76, 2.89, 2.99), 20: (2.09, 2.38, 2.54, 2.65, 2.73)}
"""Dunnett, Biometrics 20 (1964), table II: joint 95 %, degrees of freedom to rivals 1 to 5."""
ONE_SIDED = {5: (2.02, 2.44, 2.68, 2.85, 2.98), 10: (1.81, 2.15, 2.34, 2.47, 2.56), 20: (1.72, 2.03, 2.19, 2.30, 2.39)}
"""Dunnett, JASA 50 (1955), table 1a."""


@pytest.mark.parametrize("df", [1, 2, 4, 10, 18, 99, 1000])
def test_one_rival_is_students_t(df: int) -> None:
    for t in (0.0, 0.1, 1.0, 2.5, 6.0, 50.0):
        expected = stats.t.sf(t, df)
        if expected > 1e-12:
            assert p_value(t, 1, df, 1) == pytest.approx(expected, rel=1e-6)
            assert p_value(-t, 1, df, 2) == pytest.approx(2 * expected, rel=1e-6)
            assert p_value(-t, 1, df, 1) == pytest.approx(1 - expected, rel=1e-6)


@pytest.mark.parametrize("df", [5, 10, 20])
def test_critical_values_are_the_published_ones(df: int) -> None:
    for rivals in range(1, 6):
        assert round(critical(0.05, rivals, df, 2), 2) == pytest.approx(TWO_SIDED[df][rivals - 1], abs=0.011)
        assert round(critical(0.05, rivals, df, 1), 2) == pytest.approx(ONE_SIDED[df][rivals - 1], abs=0.011)


@pytest.mark.parametrize(("t", "rivals", "df"), [(2.0, 2, 4), (1.2, 5, 10), (3.1, 3, 2)])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9, 0.99])
def test_it_is_scipys_multivariate_t(t: float, rivals: int, df: int, correlation: float) -> None:
    shape = np.full((rivals, rivals), correlation) + (1 - correlation) * np.eye(rivals)
    normal = stats.multivariate_t(shape=shape, df=df)
    below = normal.cdf(np.full(rivals, t), maxpts=1_000_000, random_state=0)
    low = np.full(rivals, -t)
    inside = normal.cdf(-low, lower_limit=low, maxpts=1_000_000, random_state=0)
    assert p_value(t, rivals, df, 1, correlation) == pytest.approx(1 - below, abs=1e-4)
    assert p_value(t, rivals, df, 2, correlation) == pytest.approx(1 - inside, abs=1e-4)


def test_between_whole_degrees_of_freedom_lie_those_between() -> None:
    assert p_value(2.5, 3, 5, 2, 0.8) < p_value(2.5, 3, 4.5, 2, 0.8) < p_value(2.5, 3, 4, 2, 0.8)
    assert p_value(2.5, 1, 4.5, 2, 0.8) == pytest.approx(2 * stats.t.sf(2.5, 4.5), rel=1e-6)


def test_of_equal_rows_each_is_the_best_as_often() -> None:
    for rivals in (1, 3, 20):
        assert p_value(0.0, rivals, 6, 1) == pytest.approx(rivals / (rivals + 1))
        assert p_value(0.0, rivals, 6, 2) == 1.0


def test_more_rivals_and_fewer_degrees_of_freedom_raise_p_and_nothing_is_certain() -> None:
    assert p_value(3.0, 2, 8, 2) < p_value(3.0, 5, 8, 2) < p_value(3.0, 5, 4, 2) < p_value(2.9, 5, 4, 2)
    assert 0 < p_value(1e9, 3, 40, 2) <= 1e-12


@pytest.mark.parametrize("sides", [1, 2])
def test_the_critical_value_is_where_p_is_the_level(sides: int) -> None:
    for rivals, df in ((1, 2), (5, 10), (49, 441)):
        assert p_value(critical(0.05, rivals, df, sides), rivals, df, sides) == pytest.approx(0.05, rel=1e-6)
