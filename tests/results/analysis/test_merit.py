"""What a block is worth as an instrument, on records whose answers are known in closed form."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from results import report
from results.analysis import ranking
from results.analysis.blocks import Block, collect
from results.analysis.dunnett import critical
from results.analysis.merit import Merit, measure
from results.records.schema import Stretch, Stretched
from results.tables.power import POWER, verdict
from tests.results.factory import ENVIRONMENT, by_id, fid_suite, make_cell, make_manifest, make_record, one_block

LEADERBOARDS = Path(report.__file__).with_name("leaderboards")
NONE, KD = (70.0, 71.0, 72.0, 73.0), (72.1, 72.7, 74.4, 74.8)
"""Differences 2.1, 1.7, 2.4, 1.8: mean 2.0, standard deviation √0.1 exactly."""


def block_of(students: dict[str, tuple[float, ...]], regime: str = "offline") -> Block:
    (block,) = collect(*one_block(students, regime))
    return block


def said(block: Block) -> str:
    return " ".join(verdict(block, measure(block)))


def test_two_rows_give_the_figures_of_a_paired_t_test() -> None:
    block = block_of({"none": NONE, "kd": KD})
    merit, deviation = measure(block), math.sqrt(0.1)
    assert (merit.rows, merit.seeds, merit.reference) == (2, 4, "kd")
    assert merit.gap == pytest.approx(90 - 71.5) and merit.effect == pytest.approx(2.0)
    assert merit.noise == pytest.approx(deviation / math.sqrt(2))
    half = stats.t.ppf(0.975, 3) * deviation / 2
    assert (merit.effect_low, merit.effect_high) == (pytest.approx(2 - half), pytest.approx(2 + half))
    paired = TTestPower()
    assert merit.smallest == pytest.approx(deviation * paired.solve_power(None, 4, 0.05, 0.8), rel=1e-4)
    assert merit.seeds_needed == math.ceil(paired.solve_power(1 / deviation, None, 0.05, 0.8)) == 4
    assert "cannot tell differences below 0.67 points" in said(block) and "'kd' (1.00 points) can be told" in said(
        block
    )


def test_where_noise_hides_a_hundred_points_no_number_of_points_is_told() -> None:
    found = said(block_of({"none": (70.0, 10.0), "kd": (20.0, 60.0)}))
    assert "With 2 seeds this table cannot tell any difference." in found


def test_lower_is_better_for_distances() -> None:
    """The same scores turned round: a Fréchet distance that falls by what accuracy rises has the same merit."""
    records = []
    for seed, (none, kd) in enumerate(zip(NONE, KD, strict=True)):
        _, made = fid_suite({"none": 100 - none, "output": 100 - kd}, 10.0, seed=seed)
        records += made
    (block,) = collect(make_manifest([record.cell for record in records]), by_id(*records))
    merit, other = measure(block), measure(block_of({"none": NONE, "kd": KD}))
    assert merit.reference == "output" and merit.gap == pytest.approx(other.gap)
    assert merit.effect == pytest.approx(other.effect) and merit.smallest == pytest.approx(other.smallest)
    assert merit.seeds_needed == other.seeds_needed
    assert "below 0.67 FID" in said(block)


def test_the_reference_is_the_first_established_method_and_not_the_best_row() -> None:
    rows = {"none": NONE, "at": (80.0, 81.0, 82.0, 83.1), "kd": KD, "dkd": (71.0, 72.1, 73.0, 74.1)}
    assert measure(block_of(rows)).reference == "dkd"
    del rows["dkd"]
    assert measure(block_of(rows)).reference == "kd"
    del rows["kd"]
    assert measure(block_of(rows)).reference is None
    assert "No established method" in said(block_of(rows))


def test_a_row_that_trains_longer_is_no_reference_and_not_asked_for_rest() -> None:
    curves = {"epoch": [1.0, 2.0], "validation.student.top1": [60.0, 70.0]}
    records = []
    for seed, (none, kd) in enumerate(zip(NONE, KD, strict=True)):
        records += [
            make_record(make_cell("none", seed), none, curves=curves),
            make_record(make_cell("at", seed), none + 1 + seed % 2 / 10, curves=curves),
            make_record(
                make_cell("kd", seed, stretch=Stretch(factor=3)), kd,
                curves={"epoch": [1.0, 6.0], "validation.student.top1": [0.0, 90.0]},
                stretched=Stretched(factor=3, epochs=6),
            ),
        ]  # fmt: skip
    (block,) = collect(make_manifest([record.cell for record in records]), by_id(*records))
    merit = measure(block)
    assert merit.reference is None and merit.noise is not None
    assert merit.late_gain == pytest.approx(2.0 / merit.noise)  # a fifth of the way from 60 to 70


def test_a_reference_that_does_not_help_leaves_no_effect_to_look_for() -> None:
    block = block_of({"none": KD, "kd": NONE})
    assert measure(block).effect == pytest.approx(-2.0) and measure(block).seeds_needed is None
    assert "'kd' is not better than the baseline" in said(block)


def test_an_effect_that_is_not_told_from_none_is_called_a_guess() -> None:
    block = block_of({"none": (70.0, 71.0, 72.0), "kd": (71.5, 70.5, 73.0)})
    assert "needs" in said(block) and "this is a guess" in said(block)


@pytest.mark.parametrize(
    ("last", "words"), [([80.0, 80.05], "Training comes to rest"), ([70.0, 80.0], "still learn when training ends")]
)
def test_curves_are_read_over_the_last_tenth_of_training(last: list[float], words: str) -> None:
    """Of 15 epochs, it begins halfway from the thirteenth to the fourteenth; every second one was scored."""
    curve = [None] * 12 + [last[0], None, last[1]]
    curves = {"epoch": [float(epoch) for epoch in range(1, 16)], "validation.student.top1": curve}
    block = block_of({"none": NONE, "kd": KD})
    for line in block.lines:
        line.records = {seed: r.model_copy(update={"curves": curves}) for seed, r in line.records.items()}
    merit = measure(block)
    assert merit.noise and merit.late_gain == pytest.approx((last[1] - last[0]) * 0.75 / merit.noise)
    assert words in said(block)


@pytest.mark.parametrize("curve", [[], [None, None, 80.0], [70.0, 75.0, None]])
def test_flatness_is_unknown_without_scores_around_the_last_tenth(curve: list[float | None]) -> None:
    curves = {"epoch": [1.0, 2.0, 3.0], **({"validation.student.top1": curve} if curve else {})}
    block = block_of({"none": NONE, "kd": KD})
    for line in block.lines:
        line.records = {seed: r.model_copy(update={"curves": curves}) for seed, r in line.records.items()}
    assert measure(block).late_gain is None and "unknown: records hold no validation scores" in said(block)


def test_a_seed_costs_all_rows_on_all_their_cores() -> None:
    """The factory's records took 10 s and one for each letter of the method."""
    block = block_of({"none": NONE, "kd": KD})
    assert measure(block).cost_s == pytest.approx(14.0 + 12.0)
    for line in block.lines:
        line.records = {
            seed: r.model_copy(update={"environment": ENVIRONMENT | {"threads": 4}}) for seed, r in line.records.items()
        }
    assert measure(block).cost_s == pytest.approx(4 * 26.0)
    for line in block.lines:
        line.records = {
            seed: r.model_copy(update={"environment": r.environment | {"cuda": "13.0"}})
            for seed, r in line.records.items()
        }
    assert (measure(block).cost_s, measure(block).on_gpu) == (pytest.approx(26.0), True)
    (table,) = POWER.tables([block])
    assert table.columns[-1].title == "a seed, GPU s"


@pytest.mark.parametrize("other", [{"device": "Another GPU"}, {"cuda": None}])
def test_seconds_of_several_devices_are_not_added_up(other: dict[str, str | None]) -> None:
    block = block_of({"none": NONE, "kd": KD})
    for line in block.lines:
        line.records = {
            seed: r.model_copy(update={"environment": ENVIRONMENT | {"cuda": "13.0"} | (other if seed == 3 else {})})
            for seed, r in line.records.items()
        }
    assert (measure(block).cost_s, measure(block).on_gpu) == (None, None)
    (table,) = POWER.tables([block])
    assert "cost_s" not in [column.key for column in table.columns]


QUIET = {"none": NONE, "kd": KD, "at": (71.2, 71.9, 72.7, 74.3)}
WILD = (60.0, 80.0, 55.0, 85.0)


def test_a_row_of_gross_noise_is_not_pooled() -> None:
    block = block_of({**QUIET, "sp": WILD})
    merit, quiet = measure(block), measure(block_of(QUIET))
    assert merit.noisy == ("sp",) and merit.noise == pytest.approx(quiet.noise)
    assert merit.noise_low == pytest.approx(quiet.noise_low) and "noise of 'sp' exceeds the others'" in said(block)
    assert merit.noise and merit.effect_low == pytest.approx(2 - critical(0.05, 3, 6, 2) * merit.noise / math.sqrt(2))
    assert merit.smallest and quiet.smallest and quiet.smallest < merit.smallest < 1.2 * quiet.smallest


def test_a_noisy_reference_is_judged_by_its_own_noise() -> None:
    block = block_of({**QUIET, "kd": tuple(value + 20 for value in WILD)})
    merit = measure(block)
    assert merit.noisy == ("kd",) and "by its own noise, needs" in said(block)
    own = np.std(np.array(WILD) + 20 - np.array(NONE), ddof=1)
    half = stats.t.ppf(1 - 0.025 / 2, 3) * own / 2
    assert merit.effect_low is not None and merit.effect is not None
    assert merit.effect - merit.effect_low == pytest.approx(half)


def test_a_noisy_baselines_noise_is_counted_in_differences_to_it() -> None:
    block = block_of({**QUIET, "none": WILD})
    merit, pair = measure(block), ranking.Tested(block).blocked.beside_baseline  # type: ignore[union-attr]
    assert merit.noisy == ("none",) and "noise of 'none' exceeds the others' grossly" in said(block)
    assert merit.noise == pytest.approx(float(pair.noise)) and 3 <= pair.df < 3.1 and pair.correlation > 0.98
    half = critical(0.05, 2, float(pair.df), 2, float(pair.correlation)) * pair.noise / math.sqrt(2)
    assert merit.effect is not None and merit.effect_low == pytest.approx(merit.effect - half)
    assert merit.noise_low and 9 * merit.noise**2 / 3 / merit.noise_low**2 == pytest.approx(
        stats.chi2.ppf(0.975, 3), rel=0.02
    )


def test_of_one_seed_nothing_can_be_told() -> None:
    block = block_of({"none": (70.0,), "kd": (75.0,)})
    assert measure(block) == Merit(2, 1, 20.0, "kd", 5.0, cost_s=26.0, on_gpu=False)
    assert said(block).startswith("Nothing can be told")


def test_a_table_without_a_baseline_has_no_figures() -> None:
    assert POWER.tables([block_of({"kd": KD, "at": NONE})]) == []


@pytest.mark.parametrize("suite", ["quick", "seg-quick", "diffusion-quick"])
def test_committed_records_give_figures_that_hold_together(suite: str) -> None:
    """The interval of the reference's effect is on one side of 0 exactly where the score table has p < 0.05."""
    blocks = report.load(LEADERBOARDS / suite, suite).blocks
    for block in blocks:
        merit = measure(block)
        assert merit.gap and merit.gap > 0 and merit.cost_s and merit.seeds >= 3 and merit.smallest
        line = next(line for line in block.lines if line.label == merit.reference)
        p = ranking.Tested(block).differences[id(line)].p
        assert merit.effect_low is not None and merit.effect_high is not None and p is not None
        assert (p < 0.05) == (merit.effect_low > 0 or merit.effect_high < 0)
        assert None not in {asdict(merit)[key] for key in ("noise", "effect", "reference")}
