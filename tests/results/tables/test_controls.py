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
PAIRS = [("dml", "none"), ("dml+adm", "dml"), ("dml+adm", "dml+adm (uniform)")]


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


def of_statsmodels(scores: Mapping[str, Sequence[float]]) -> list[tuple[float, float, float, float]]:
    """Difference, interval and p of each pair, from a linear model of rows and seeds."""
    long = pd.DataFrame([(row, seed, y) for row, ys in scores.items() for seed, y in enumerate(ys)],
                        columns=["row", "seed", "y"])  # fmt: skip
    fit, found = ols("y ~ C(row) + C(seed)", long).fit(), []
    names = sorted(scores)
    for first, second in PAIRS:
        contrast = np.zeros(len(fit.params))
        for name, sign in ((first, 1.0), (second, -1.0)):
            if names.index(name):  # the first in the alphabet is the model's intercept
                contrast[list(fit.params.index).index(f"C(row)[T.{name}]")] = sign
        test = fit.t_test(contrast)
        found.append((float(np.squeeze(test.effect)), *np.squeeze(test.conf_int()), float(test.pvalue)))
    adjusted = multipletests([one[3] for one in found], method="holm")[1]
    return [(*one[:3], p) for one, p in zip(found, adjusted, strict=True)]


def test_even_noise_is_pooled_as_in_an_analysis_of_variance() -> None:
    (table,) = CONTROLS.tables(blocks_of(EVEN))
    assert [
        (label, value(table, row, "control")) for label, row in zip(labels(table), table.rows, strict=True)
    ] == PAIRS
    for row, expected in zip(table.rows, of_statsmodels(EVEN), strict=True):
        found = (*(value(table, row, "difference", part) for part in range(3)), value(table, row, "p"))
        assert found == pytest.approx(expected, rel=1e-6)
    assert "the noise pooled over the table's rows." in table.notes[0]


def test_where_noise_is_grossly_uneven_each_pair_has_its_own() -> None:
    scores = EVEN | {"none": (50.0, 90.0, 85.0, 60.0)}
    (table,) = CONTROLS.tables(blocks_of(scores))
    tests = [stats.ttest_rel(scores[first], scores[second]) for first, second in PAIRS]
    adjusted = multipletests([test.pvalue for test in tests], method="holm")[1]
    for row, test, p in zip(table.rows, tests, adjusted, strict=True):
        interval = test.confidence_interval()
        assert value(table, row, "p") == pytest.approx(p, rel=1e-6)
        assert (value(table, row, "difference", 1), value(table, row, "difference", 2)) == pytest.approx(
            (interval.low, interval.high), rel=1e-6
        )
    assert "of students that of 'none' is not" in table.notes[0]


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
