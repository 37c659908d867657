"""Times of several devices: each has its rows, and no mean and no ratio is over two of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from results.analysis.blocks import Block, collect
from results.plots.tradeoff import tradeoff
from results.records.schema import Cost
from results.table import Table
from results.tables.cost import COST, relative_time
from tests.results.factory import ENVIRONMENT, by_id, make_cell, make_manifest, make_record

FAST, SLOW = {"device": "GPU 2000", "cuda": "13.0"}, {"device": "GPU 1000", "cuda": "13.0"}


def block_of(times: Mapping[tuple[str, int], tuple[Mapping[str, Any], float]]) -> Block:
    """Method and seed to what it was measured on and the milliseconds of a step."""
    cells = {key: make_cell(*key) for key in times}
    records = [
        make_record(cells[key], cost=Cost(step_ms=ms, train_s=ms / 2), environment=ENVIRONMENT | place)
        for key, (place, ms) in times.items()
    ]
    (block,) = collect(make_manifest(list(cells.values())), by_id(*records))
    return block


def rows(table: Table, *keys: str) -> list[tuple[Any, ...]]:
    index = [[column.key for column in table.columns].index(key) for key in keys]
    return [tuple(row.entries[i].values[0] for i in index) for row in table.rows]


MIXED = {
    ("none", 0): (FAST, 10.0), ("none", 1): (FAST, 12.0), ("none", 2): (SLOW, 20.0),
    ("kd", 0): (FAST, 22.0), ("kd", 1): (SLOW, 30.0), ("kd", 2): (SLOW, 50.0),
}  # fmt: skip


def test_each_device_has_rows_of_its_own() -> None:
    (table,) = COST.tables([block_of(MIXED)])
    assert rows(table, "label", "device", "n", "step_ms", "train_s", "slowdown") == [
        ("none", "GPU 1000, 1 thread", 1, 20.0, 10.0, 1.0),
        ("none", "GPU 2000, 1 thread", 2, 11.0, 5.5, 1.0),
        ("kd", "GPU 1000, 1 thread", 2, 40.0, 20.0, 2.0),
        ("kd", "GPU 2000, 1 thread", 1, 22.0, 11.0, 2.0),
    ]
    assert [row.kind for row in table.rows] == ["baseline", "baseline", "ranked", "ranked"]
    assert "different devices" in table.notes[-1]


def test_of_one_device_nothing_is_said() -> None:
    (table,) = COST.tables([block_of({key: (FAST, ms) for key, (_, ms) in MIXED.items()})])
    assert "device" not in [column.key for column in table.columns] and len(table.notes) == 1
    assert rows(table, "label", "n", "step_ms") == [("none", 3, 14.0), ("kd", 3, 34.0)]


def test_a_row_that_was_measured_where_the_baseline_was_not_has_no_ratio() -> None:
    block = block_of({("none", 0): (FAST, 10.0), ("kd", 0): (SLOW, 30.0), ("at", 0): (FAST | {"threads": 4}, 12.0)})
    (table,) = COST.tables([block])
    assert rows(table, "label", "slowdown") == [("none", 1.0), ("kd", None), ("at", None)]
    assert [relative_time(block, line) for line in block.lines] == [1.0, None, None]
    assert tradeoff(block, "plot") is None  # of one point


def test_a_ratio_is_the_mean_of_those_on_each_device() -> None:
    block = block_of(MIXED | {("kd", 0): (FAST, 33.0)})
    assert relative_time(block, block.lines[1]) == pytest.approx((3 + 2) / 2)
