"""Rows that were trained or scored on different data: shown, but neither ranked nor compared."""

from __future__ import annotations

import pytest

from results.analysis.blocks import Block, collect
from results.tables.scores import SCORES
from results.tables.summary import SUMMARY
from tests.results.factory import by_id, make_cell, make_manifest, make_record
from tests.results.reading import labels, value


def mixed(*digests: str | None) -> list[Block]:
    """A block of none and kd with two seeds each, whose records have these data digests."""
    cells = [make_cell(method, seed) for method in ("none", "kd") for seed in (0, 1)]
    records = [make_record(c, 70.0 + i, data_digest=d) for i, (c, d) in enumerate(zip(cells, digests, strict=True))]
    return collect(make_manifest(cells), by_id(*records))


def test_rows_that_were_scored_by_different_extractors_are_neither_ranked_nor_compared() -> None:
    same = "train 1a2b, test 0f0f, extractor "
    blocks = mixed(f"{same}9a9a", f"{same}9a9a", f"{same}9a9a", f"{same}77")
    (table,) = SCORES.tables(blocks)
    ours = [row for row in table.rows if row.kind != "reference"]
    assert [row.kind for row in ours] == ["unranked", "unranked"] and labels(table)[-2:] == ["kd", "none"]
    assert not any(entry.bold for row in table.rows for entry in row.entries)
    assert {"top1_delta", "gain"}.isdisjoint(column.key for column in table.columns)
    assert all(value(table, row, "rank") is None for row in ours)
    assert table.notes[-1] == (
        "Nothing is ranked or compared here, as rows differ in extractor (9a9a: none, kd of seed 0; 77: kd of seed 1)."
    )
    (total,) = SUMMARY.tables([*blocks, *mixed("train 1", "train 1", "train 1", "train 1")])
    assert labels(total) == ["kd", "none"] and total.subtitle == "1 block"
    assert total.notes[-1].startswith("Left out, as their rows were trained or scored on different data: Block")


@pytest.mark.parametrize(
    ("digests", "told"),
    [
        (("train 1, test 2", "train 1, test 2", "train 3, test 4", "train 3, test 4"),
         "train (1: none; 3: kd), test (2: none; 4: kd)"),
        (("aa-bb", "aa-bb", "aa-cc", "aa-cc"), "data (aa-bb: none; aa-cc: kd)"),
        (("aa-bb", "aa-bb", "train 1, test 2", "train 1, test 2"), "data (aa-bb: none; train 1, test 2: kd)"),
        (("train 1", "train 1, extractor 2", "train 1, extractor 2", None),
         "extractor (none: none of seed 0; 2: none of seed 1, kd)"),
    ],
)  # fmt: skip
def test_the_table_says_in_which_parts_of_the_data_rows_differ(digests: tuple[str | None, ...], told: str) -> None:
    (table,) = SCORES.tables(mixed(*digests))
    assert table.notes[-1] == f"Nothing is ranked or compared here, as rows differ in {told}."


def test_records_that_do_not_say_what_they_were_trained_on_are_ranked_with_the_others() -> None:
    (table,) = SCORES.tables(mixed(None, "train 1", "train 1", None))
    assert [row.kind for row in table.rows] == ["reference", "ranked", "baseline"]
