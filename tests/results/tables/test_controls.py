"""The table of controls: against statsmodels' analysis of variance and scipy's paired t-test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.multitest import multipletests

from results.analysis.blocks import Block, collect
from results.table import Table
from results.tables.controls import CONTROLS
from tests.results.factory import by_id, failed, make_cell, make_manifest, make_record, make_row
from tests.results.reading import labels, value

EVEN = {
    "none": (70.2, 71.4, 71.7, 70.3),
    "dml": (72.6, 73.4, 74.8, 72.4),
    "dml+adm": (74.2, 74.7, 75.5, 73.7),
    "dml+adm (uniform)": (73.4, 74.9, 75.2, 73.0),
}
CONTROLS_OF = {"dml": ["none"], "dml+adm": ["dml", "dml+adm (uniform)"]}
Pairs = Sequence[tuple[str, str]]
PAIRS: Pairs = [("dml", "none"), ("dml+adm", "dml"), ("dml+adm", "dml+adm (uniform)")]


def blocks_of(
    students: Mapping[str, Sequence[float | None]],
    regime: str = "online",
    teachers: Mapping[str, Sequence[float]] | None = None,
) -> list[Block]:
    rows, records = [], []
    for number, (label, scores) in enumerate(students.items()):
        for seed, score in enumerate(scores):
            cell = make_cell(label.split(" ")[0], seed, regime, stretch={"factor": 2.0 + number} if number else None)
            teacher = teachers[label][seed] if teachers else 90.0 + seed
            records.append(failed(cell) if score is None else make_record(cell, score, teacher))
            rows.append(make_row(cell, label, controls=CONTROLS_OF.get(label, ())))
    return collect(make_manifest([], rows=[row.model_dump() for row in rows]), by_id(*records))


def of_statsmodels(scores: Mapping[str, Sequence[float]], pairs: Pairs) -> list[tuple[float, float, float, float]]:
    """Difference, interval and p of each pair, unadjusted, from a linear model of rows and seeds."""
    long = pd.DataFrame([(row, seed, y) for row, ys in scores.items() for seed, y in enumerate(ys)],
                        columns=["row", "seed", "y"])  # fmt: skip
    fit, found = ols("y ~ C(row) + C(seed)", long).fit(), []
    names = sorted(scores)
    for first, second in pairs:
        contrast = np.zeros(len(fit.params))
        for name, sign in ((first, 1.0), (second, -1.0)):
            if names.index(name):  # the first in the alphabet is the model's intercept
                contrast[list(fit.params.index).index(f"C(row)[T.{name}]")] = sign
        test = fit.t_test(contrast)
        found.append((float(np.squeeze(test.effect)), *np.squeeze(test.conf_int()), float(test.pvalue)))
    return found


def agrees(table: Table, expected: Sequence[tuple[float, float, float, float]]) -> None:
    adjusted = multipletests([one[3] for one in expected], method="holm")[1]
    for row, one, p in zip(table.rows, expected, adjusted, strict=True):
        found = (*(value(table, row, "difference", part) for part in range(3)), value(table, row, "p"))
        assert found == pytest.approx((*one[:3], p), rel=1e-6)


def test_even_noise_is_pooled_as_in_an_analysis_of_variance() -> None:
    (table,) = CONTROLS.tables(blocks_of(EVEN))
    assert [
        (label, value(table, row, "control")) for label, row in zip(labels(table), table.rows, strict=True)
    ] == PAIRS
    agrees(table, of_statsmodels(EVEN, PAIRS))
    assert "the noise pooled over the table's rows." in table.notes[0]


def test_pairs_with_a_row_of_gross_noise_have_their_own_and_the_others_are_pooled_without_it() -> None:
    scores = EVEN | {"none": (50.0, 90.0, 85.0, 60.0)}
    (table,) = CONTROLS.tables(blocks_of(scores))
    alone = stats.ttest_rel(scores["dml"], scores["none"])
    interval = alone.confidence_interval()
    mean = float(np.mean(scores["dml"]) - np.mean(scores["none"]))
    even = {row: each for row, each in EVEN.items() if row != "none"}
    agrees(table, [(mean, interval.low, interval.high, alone.pvalue), *of_statsmodels(even, PAIRS[1:])])
    assert "(of students that of 'none'): pairs with those have their own" in table.notes[0]


def test_co_trained_teachers_are_held_against_their_controls_teachers() -> None:
    teachers = {label: [score + 10 + number for score in EVEN["dml"]] for number, label in enumerate(EVEN)}
    teachers["dml+adm"][0] += 0.4
    (table,) = CONTROLS.tables(blocks_of(EVEN, teachers=teachers))
    assert [value(table, row, "teacher_difference") for row in table.rows] == pytest.approx([1.0, 1.1, -0.9])
    (offline,) = CONTROLS.tables(blocks_of(EVEN, "offline"))
    assert "teacher_difference" not in [column.key for column in offline.columns]


def test_a_row_that_is_incomplete_is_not_tested_and_says_why() -> None:
    (table,) = CONTROLS.tables(blocks_of(EVEN | {"dml+adm (uniform)": (73.4, None, 75.2, 73.0)}))
    assert [row.kind for row in table.rows] == ["ranked", "ranked", "unranked"]
    assert value(table, table.rows[2], "difference") is None and "diverged" in table.rows[2].note


def test_a_suite_without_controls_has_no_such_table_and_one_seed_no_test() -> None:
    assert CONTROLS.tables(blocks_of({"none": (70.0, 71.0), "at": (72.0, 73.0)})) == []
    (table,) = CONTROLS.tables(blocks_of({label: scores[:1] for label, scores in EVEN.items()}))
    assert "difference" not in [column.key for column in table.columns] and "two seeds" in table.notes[0]
