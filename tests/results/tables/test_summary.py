"""The summary: what is ranked there, over what, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import pytest
from scipy import stats

from results import report
from results.analysis.blocks import collect
from results.records.schema import MethodPart, Record, Stretch
from results.table import Table
from results.tables.summary import SUMMARY
from tests.results.factory import by_id, failed, fid_suite, make_cell, make_manifest, make_record, make_row
from tests.results.reading import labels, row_of, value

LEADERBOARDS = Path(report.__file__).with_name("leaderboards")
Scores = Sequence[float | None]
Title = str


def suite(blocks: Mapping[Title, Mapping[str, Scores]], regime: str = "offline", **changes: object) -> list[Table]:
    """The summary of classification blocks of one frozen teacher of 90 %; None is a seed that diverged."""
    return SUMMARY.tables(collect(*_made(blocks, regime, **changes)))


def _made(blocks, regime="offline", **changes):
    rows, records = [], []
    for title, students in blocks.items():
        for method, scores in students.items():
            for seed, score in enumerate(scores):
                cell = make_cell(method, seed, regime, benchmark=f"{title}@1", **changes)
                rows.append(make_row(cell, block=title))
                records.append(failed(cell) if score is None else make_record(cell, score, 90.0))
    return make_manifest([], rows=rows), by_id(*records)


def ranked(table: Table) -> list[str]:
    return [str(value(table, row, "label")) for row in table.rows if row.kind != "unranked"]


def test_only_what_is_complete_in_every_block_is_ranked() -> None:
    """A method that stood in one block and was best there once stood above those that stood in all."""
    (table,) = suite({
        "A": {"none": (70.0, 71.0), "kd": (75.0, 76.0), "at": (72.0, None)},
        "B": {"none": (60.0, 61.0), "kd": (62.0, 62.5), "at": (64.0, 64.5), "best": (80.0, 81.0)},
        "C": {"none": (60.0, 61.0), "kd": (62.0, 62.5), "at": (64.0, 64.5)},
    })  # fmt: skip
    assert ranked(table) == ["kd", "none"] and labels(table) == ["kd", "none", "at", "best"]
    assert {value(table, row_of(table, label), "blocks") for label in ranked(table)} == {"3"}
    at, best = row_of(table, "at"), row_of(table, "best")
    assert value(table, at, "blocks") == "2/3" and value(table, best, "blocks") == "1/3"
    assert at.note == "incomplete in A (resnet20 → resnet8): 1 ok, 1 diverged"
    assert best.note == "not in A (resnet20 → resnet8), C (resnet20 → resnet8)"
    for row in (at, best):
        assert {value(table, row, key) for key in ("percentile", "gain", "wins", "among_best")} == {None}


def test_the_percentile_counts_the_rows_that_are_ranked() -> None:
    (table,) = suite({
        "A": {"none": (70.0, 71.0), "kd": (75.0, 76.0), "at": (72.0, 73.0), "alone": (99.0, 99.0)},
        "B": {"none": (60.0, 61.0), "kd": (62.0, 63.0), "at": (62.0, 63.0)},
    })  # fmt: skip
    found = {label: value(table, row_of(table, label), "percentile") for label in ranked(table)}
    assert found == {"kd": (100 + 75) / 2, "at": (50 + 75) / 2, "none": 0.0}
    assert [value(table, row_of(table, label), "wins") for label in ("kd", "at", "none")] == [1, 1, 0]


def test_the_gain_is_the_median_over_blocks_with_an_interval_over_seeds() -> None:
    blocks = {
        "A": {"none": (70.0, 72.0, 71.0), "kd": (75.0, 76.0, 78.0)},
        "B": {"none": (60.0, 61.0, 62.0), "kd": (62.0, 62.5, 64.0)},
        "C": {"none": (50.0, 50.5, 52.0), "kd": (80.0, 79.0, 81.0)},
    }
    (table,) = suite(blocks)
    ways = {title: 90 - sum(scores["none"]) / 3 for title, scores in blocks.items()}
    by_seed = [
        median((scores["kd"][seed] - scores["none"][seed]) / ways[title] for title, scores in blocks.items())
        for seed in range(3)
    ]
    low, high = stats.t.interval(0.95, 2, loc=sum(by_seed) / 3, scale=stats.sem(by_seed))
    found = [value(table, row_of(table, "kd"), "gain", part) for part in range(3)]
    assert found == pytest.approx([sum(by_seed) / 3, low, high])


def test_one_block_has_no_summary_which_would_repeat_its_scores() -> None:
    assert suite({"A": {"none": (70.0, 72.0), "kd": (75.0, 76.0)}}) == []


def test_blocks_that_share_their_baseline_alone_have_no_summary_which_would_rank_nothing() -> None:
    assert (
        suite({"A": {"none": (70.0, 72.0), "kd": (75.0, 76.0)}, "B": {"none": (60.0, 61.0), "at": (65.0, 66.0)}}) == []
    )


@pytest.mark.parametrize("tasks", [("classification", "classification"), ("classification", "segmentation")])
def test_nor_have_blocks_that_share_a_baseline_trained_longer_beside_it(tasks: Sequence[str]) -> None:
    """Such a table once had two rows and, of one task, below them every method of each block, unranked."""
    rows, records = [], []
    for (title, method), task in zip({"A": "kd", "B": "at"}.items(), tasks, strict=True):
        matched = Stretch(match=(make_cell(method).method,))
        for label, changes in {"none": {}, method: {}, "none, matched": {"stretch": matched}}.items():
            for seed in range(2):
                cell = make_cell(label.split(",")[0], seed, benchmark=f"{title}@1", task=task, **changes)
                rows.append(make_row(cell, label, block=title))
                records.append(make_record(cell, 70.0 + seed, 90.0))
    assert SUMMARY.tables(collect(make_manifest([], rows=rows), by_id(*records))) == []


def test_of_one_seed_the_gain_has_no_interval() -> None:
    (single,) = suite({title: {"none": (70.0,), "kd": (75.0,)} for title in "AB"})
    assert [value(single, row_of(single, "kd"), "gain", part) for part in range(3)] == [0.25, None, None]


def test_one_label_with_other_settings_is_another_row() -> None:
    rows, records = [], []
    for title, temperature in (("A", 2.0), ("B", 4.0)):
        for method, score in (("none", 70.0), ("kd", 75.0), ("dkd", 74.0)):
            settings = {"temperature": temperature, "weight": 1.0} if method == "kd" else {}
            parts = (MethodPart(name=method, version=1, settings=settings),)
            cell = make_cell(method, benchmark=f"{title}@1", parts=parts)
            rows.append(make_row(cell, block=title))
            records.append(make_record(cell, score))
    (table,) = SUMMARY.tables(collect(make_manifest([], rows=rows), by_id(*records)))
    assert labels(table) == ["dkd", "none", "kd (temperature 2.0)", "kd (temperature 4.0)"]
    assert ranked(table) == ["dkd", "none"]


def mixed(methods: Sequence[str]) -> list[Table]:
    """Two classification blocks and one of diffusion; ``methods`` stand in all, ``at`` and ``cls`` in one task each."""
    rows: list = []
    records: list[Record] = []
    for title in ("A", "B"):
        for place, method in enumerate((*methods, "cls")):
            cell = make_cell(method, benchmark=f"{title}@1")
            rows.append(make_row(cell, block=title))
            records.append(make_record(cell, 70.0 + place, 90.0))
    cells, made = fid_suite(dict(zip((*methods, "at"), (20.0, 10.0, 30.0), strict=False)), 4.0)
    rows += [make_row(cell, block="C") for cell in cells]
    return SUMMARY.tables(collect(make_manifest([], rows=rows), by_id(*records, *made)))


def test_each_task_has_its_own_table_and_all_tasks_one_of_what_stands_in_all() -> None:
    tables = mixed(("none", "kd"))
    assert [table.title for table in tables] == ["Offline, classification", "Offline, all tasks"]
    assert [ranked(table) for table in tables] == [["cls", "kd", "none"], ["kd", "none"]]
    everything = tables[-1]
    gains = (1 / 20, 1 / 20, 10 / 16)
    assert value(everything, row_of(everything, "kd"), "gain") == pytest.approx(median(gains))
    assert everything.context == {"regime": "offline", "task": "all"} and not everything.rows[-1].note


def test_where_one_row_alone_stands_in_all_tasks_there_is_no_table_over_them() -> None:
    assert [table.context["task"] for table in mixed(("none",))] == ["classification"]


def test_the_committed_records_of_bench_rank_no_method_over_fewer_blocks_than_another() -> None:
    suites = ("quick", "seg-quick", "diffusion-quick")
    tables = SUMMARY.tables([block for name in suites for block in report.load(LEADERBOARDS / name, name).blocks])
    for table in tables:
        assert len({value(table, row, "blocks") for row in table.rows}) == 1 and len(ranked(table)) > 2


def test_regimes_stand_apart() -> None:
    offline, records = _made({title: {"none": (70.0,), "kd": (75.0,)} for title in "AB"})
    online, more = _made({title: {"none": (50.0,), "dml": (52.0,)} for title in "CD"}, "online")
    manifest = make_manifest([], rows=[*offline.rows, *online.rows])
    tables = SUMMARY.tables(collect(manifest, records | more))
    assert [(table.context["regime"], ranked(table)) for table in tables] == [
        ("online", ["dml", "none"]), ("offline", ["kd", "none"]),
    ]  # fmt: skip


def test_blocks_without_a_gain_are_told() -> None:
    (table,) = suite({"A": {"none": (70.0, 72.0), "kd": (75.0, 76.0)}, "B": {"none": (95.0, 95.0), "kd": (96.0, 97.0)}})
    assert value(table, row_of(table, "kd"), "gain") == pytest.approx((75.5 - 71) / (90 - 71))
    assert "Gains: 1 of 2 blocks; elsewhere the teacher is not better than the baseline." in table.notes
