"""Which cells one worker may train together, and why others train alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from suites.spec.expand import PlannedCell, expand
from suites.spec.grouping import group_key, why_alone

SUITE = """
title: cells of many kinds
blocks:
  - title: Offline
    task: classification
    benchmark: digit-scenes@1
    protocol: ./recipe.yaml
    pairs: [resnet20 > resnet8, resnet20 > resnet14, resnet14 > resnet8]
    regime: offline
    methods: [none, kd, at, ema-teacher, mlkd, kd+mlkd]
    seeds: [0, 1]
  - title: Another recipe of the teacher
    task: classification
    benchmark: digit-scenes@1
    protocol: ./recipe.yaml
    pairs: [resnet20 > resnet8]
    regime: offline
    teacher_seed: 7
    methods: [kd]
    seeds: [0]
  - title: Longer
    task: classification
    benchmark: digit-scenes@1
    protocol: ./recipe.yaml
    pairs: [resnet20 > resnet8]
    regime: offline
    methods: [{method: kd, label: longer, stretch: 2.0}]
    seeds: [0]
  - title: Online
    task: classification
    benchmark: digit-scenes@1
    protocol: ./recipe.yaml
    pairs: [resnet20 > resnet8]
    regime: online
    methods: [dml]
    seeds: [0]
"""


@pytest.fixture
def rows(write_suite: Callable[[str], Path]) -> dict[tuple[str, str, str, int], PlannedCell]:
    """Cells by table, pair, label and seed."""
    planned = expand(str(write_suite(SUITE))).rows
    return {(row.block, row.cell.pair, row.label, row.cell.seed): row for row in planned}


def test_a_group_shares_teacher_data_and_seed(rows):
    one = group_key(rows["Offline", "resnet20 > resnet8", "none", 0])
    assert one is not None and hash(one) is not None
    alike = {key for key, row in rows.items() if group_key(row) == one}
    pairs = ("resnet20 > resnet8", "resnet20 > resnet14")
    assert alike == {("Offline", pair, method, 0) for pair in pairs for method in ("none", "kd", "at")}


def test_methods_that_want_other_batches_are_groups_of_their_own(rows):
    pair = "resnet20 > resnet8"
    own, extra, both = (group_key(rows["Offline", pair, method, 0]) for method in ("ema-teacher", "mlkd", "kd+mlkd"))
    assert extra == both and len({group_key(rows["Offline", pair, "none", 0]), own, extra}) == 3


def test_cells_without_a_frozen_teacher_and_stretched_ones_train_alone_and_say_why(rows):
    reasons = {block: why_alone(row) for (block, *_), row in rows.items() if group_key(row) is None}
    assert reasons == {
        "Online": "regime online: there is no frozen teacher to share",
        "Longer": "it trains longer than its protocol says",
    }
    teacher = rows["Offline", "resnet20 > resnet8", "kd", 0].teacher
    assert teacher is not None and group_key(teacher) is None and "alone" in why_alone(teacher)
    assert all(why_alone(row) == "" for row in rows.values() if group_key(row) is not None)
