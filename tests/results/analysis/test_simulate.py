"""The rates that docs/statistics.md reports, on fewer tables: errors within chance, power where there was none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from results.analysis import simulate
from results.analysis.simulate import noises, rates

DRAWS = 4_000
PAGE = Path(__file__).parents[3] / "docs" / "statistics.md"


def most(rate: float) -> float:
    """What a rate of that size is not above in one of a thousand counts."""
    return rate + 3.1 * float(np.sqrt(rate * (1 - rate) / DRAWS))


@pytest.mark.parametrize(("rows", "seeds"), [(6, 3), (6, 5), (12, 3)])
def test_with_equal_noise_the_error_is_the_level_and_few_seeds_have_power(rows: int, seeds: int) -> None:
    before, now = (rates(noises(rows)["equal"], seeds, DRAWS, old) for old in (True, False))
    assert 0.035 < now.error < most(0.055) and before.error < most(0.05)
    assert now.best_out < most(0.05) and now.aside < most(0.1)
    assert now.power > before.power + 0.3 and now.bold < 0.6 * before.bold


def test_with_one_row_of_twice_the_noise_the_error_stays_near_the_level() -> None:
    found = rates(noises(6)["one row 2"], 5, DRAWS, False)
    assert found.error < most(0.07) and found.best_out < most(0.06)


@pytest.mark.parametrize("wild", [0, 5])
def test_where_a_row_is_grossly_noisy_the_level_is_kept(wild: int) -> None:
    noise = np.ones(6)
    noise[wild] = 8.0
    found = rates(noise, 10, DRAWS, False)
    assert found.aside > 0.99 and found.error < most(0.06) and found.best_out < most(0.05)


def test_one_grossly_noisy_row_takes_no_power_from_the_others() -> None:
    with_it, without = rates(noises(12)["one row 5"], 5, DRAWS, False), rates(np.ones(11), 5, DRAWS, False)
    assert with_it.power > without.power - 0.03


def test_the_tests_of_before_are_those_of_the_libraries() -> None:
    scores = np.random.default_rng(0).normal(size=(1, 4, 5)) + np.array([[0], [1.5], [0], [-1]])
    told, bold = simulate._judge(scores, old=True)
    raw = [stats.ttest_rel(scores[0, row], scores[0, 0]).pvalue for row in (1, 2, 3)]
    assert list(told[0, 1:]) == [p < 0.05 for p in multipletests(raw, method="holm")[1]]
    best = int(scores.mean(-1).argmax())
    rivals = [row for row in range(4) if row != best]
    raw = [stats.ttest_rel(scores[0, best], scores[0, row]).pvalue for row in rivals]
    expected = dict(zip(rivals, multipletests(raw, method="holm")[1] >= 0.05, strict=True)) | {best: True}
    assert list(bold[0]) == [expected[row] for row in range(4)]


@pytest.mark.parametrize(("name", "rows", "seeds"), [("equal", 6, 3), ("baseline 2", 3, 5), ("one row 5", 6, 3)])
def test_the_documented_figures_are_what_the_command_prints(name: str, rows: int, seeds: int) -> None:
    assert simulate.line(name, rows, seeds, simulate.REPEATS) in PAGE.read_text().splitlines()


def test_the_command_prints_every_kind_of_table() -> None:
    made = list(simulate.lines(20))
    starts = [line[: line.index("→")].rsplit("|", 1)[0] for line in made[2:]]
    assert len(set(starts)) == 5 * 3 * 3
    written = PAGE.read_text().splitlines()
    first = written.index(made[0])
    assert [line.startswith(start) for line, start in zip(written[first + 2 :], starts, strict=False)] == [True] * 45
