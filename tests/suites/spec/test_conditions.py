"""A block's condition: what it makes of a cell's identity, and every way to get it wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from adm_core import condition as core
from adm_core.errors import AdmError
from results.records.schema import Cell
from suites.spec.conditions import condition_of
from suites.spec.expand import PlannedCell, expand, teacher_cell
from suites.spec.grouping import group_key
from suites.spec.trials import trials_of

BLOCK = """title: mine
blocks:
  - title: Table
    task: {task}
    benchmark: {benchmark}
    {condition}
    protocol: {protocol}
    pairs: [{pair}]
    regime: offline
    methods: [none, kd]
    seeds: [0]
"""
CLASSIFICATION = {
    "task": "classification", "benchmark": "digit-scenes@1", "protocol": "smoke",
    "pair": "resnet14w16s2 > resnet8w8s2",
}  # fmt: skip
NOISE = "condition: {noise: {kind: symmetric, rate: 0.2}}"
SHIFT = "condition: {shift: {corruptions: [jpeg, fog], severity: 3}}"


def rows(folder: Path, condition: str = "", **changes: str) -> dict[str, PlannedCell]:
    file = folder / "mine.yaml"
    file.write_text(BLOCK.format(**CLASSIFICATION | changes | {"condition": condition}))
    return {row.label: row for row in expand(str(file)).rows}


def cells(folder: Path, condition: str = "", **changes: str) -> dict[str, Cell]:
    return {label: row.cell for label, row in rows(folder, condition, **changes).items()}


def test_a_cell_without_a_condition_is_the_cell_that_it_was(tmp_path: Path) -> None:
    plain = cells(tmp_path)["kd"]
    assert plain.condition is None and "condition" not in plain.model_dump_json()
    assert plain.id == "aed0e39e89f9add5"  # as before there were conditions
    assert {cell.id for cell in cells(tmp_path, "condition: null").values()} == {
        cell.id for cell in cells(tmp_path).values()
    }


@pytest.mark.parametrize("condition", [NOISE, SHIFT])
def test_a_condition_is_science_and_its_spelling_is_not(tmp_path: Path, condition: str) -> None:
    plain, own = cells(tmp_path), cells(tmp_path, condition)
    assert own["kd"].id != plain["kd"].id and own["kd"].condition is not None
    for alike in (
        condition.replace("0.2", "2e-1").replace("3}", "3, seed: 0}"),
        condition.replace("rate: 0.2", "rate: 0.2, seed: 0").replace("[jpeg, fog]", "[fog, jpeg]"),
    ):
        assert cells(tmp_path, alike)["kd"].id == own["kd"].id
    for other in (
        condition.replace("0.2", "0.3").replace("severity: 3", "severity: 4"),
        condition.replace("symmetric", "asymmetric").replace("[jpeg, fog]", "[jpeg]"),
        condition.replace("rate: 0.2", "rate: 0.2, seed: 1").replace("severity: 3", "severity: 3, seed: 1"),
    ):
        assert cells(tmp_path, other)["kd"].id != own["kd"].id


@pytest.mark.parametrize("condition", [NOISE, SHIFT])
def test_a_frozen_teacher_is_trained_under_the_blocks_condition(tmp_path: Path, condition: str) -> None:
    cell = cells(tmp_path, condition)["kd"]
    alone = teacher_cell(cell)
    assert alone is not None and alone.condition == cell.condition
    assert Cell.model_validate_json(cell.model_dump_json()).id == cell.id


def test_cells_of_two_conditions_are_not_trained_together(tmp_path: Path) -> None:
    keys = {group_key(rows(tmp_path, condition)["kd"]) for condition in ("", NOISE, SHIFT)}
    assert len(keys) == 3


def test_a_task_is_told_what_the_cell_says(tmp_path: Path) -> None:
    noise, shift = (condition_of(cells(tmp_path, condition)["kd"]) for condition in (NOISE, SHIFT))
    assert noise == core.Condition(noise=core.LabelNoise("symmetric", 0.2))
    assert shift == core.Condition(shift=core.Shift(("fog", "jpeg"), 3))
    assert condition_of(cells(tmp_path)["kd"]) is None


def test_trials_are_made_under_the_condition(tmp_path: Path) -> None:
    cells(tmp_path, NOISE)
    found = trials_of(str(tmp_path / "mine.yaml"), 2, 1)
    conditions = {planned.cell.condition for planned in found.expansion.cells}
    assert {str(condition) for condition in conditions} == {"symmetric label noise 0.2"}


SEGMENTATION = {
    "task": "segmentation", "benchmark": "shape-scenes@3", "protocol": "shape-scenes-quick",
    "pair": "pspnet-r18w16 > pspnet-r18w8",
}  # fmt: skip
DIFFUSION = {"task": "diffusion", "benchmark": "digits@2", "protocol": "digits-quick", "pair": "unet-s > unet-xs"}


@pytest.mark.parametrize(
    ("condition", "changes", "told"),
    [
        (NOISE.replace("symmetric", "symetric"), {},
         "block 'Table', condition.noise.kind: unknown kind of noise 'symetric'; did you mean symmetric, asymmetric?"),
        (NOISE.replace("0.2", "0"), {}, "line 6, column 42: key 'blocks.0.condition.noise.rate' = 0: should be"),
        (NOISE.replace("0.2", "1.0"), {}, "'blocks.0.condition.noise.rate' = 1.0: should be less than 1"),
        (NOISE.replace("0.2", "a fifth"), {}, "'blocks.0.condition.noise.rate' = 'a fifth': should be a"),
        (NOISE.replace("rate", "ratio"), {}, "key 'blocks.0.condition.noise.ratio' (value 0.2); did you mean rate"),
        (NOISE.replace("noise:", "noises:"), {}, "unknown key 'blocks.0.condition.noises'"),
        (SHIFT.replace("jpeg", "jpg"), {},
         "block 'Table', condition.shift.corruptions: unknown corruption 'jpg'; did you mean jpeg"),
        (SHIFT.replace("jpeg", "fog"), {}, "a corruption stands there twice"),
        (SHIFT.replace("3", "6"), {}, "'blocks.0.condition.shift.severity' = 6: should be less than or equal to 5"),
        (SHIFT.replace("[jpeg, fog]", "[]"), {}, "'blocks.0.condition.shift.corruptions' = []: needs at least 1"),
        ("condition: {}", {}, "a condition has 'noise', 'shift' or both; leave it out where there is none"),
        (NOISE, SEGMENTATION, "condition.noise: task 'segmentation' takes no condition 'noise', only shift"),
        (SHIFT, DIFFUSION, "condition.shift: task 'diffusion' takes no condition 'shift', nor any other"),
        (NOISE.replace("symmetric", "instance"), {"benchmark": "imagenet@1", "protocol": "imagenet-100e"},
         "instance noise reads the pictures, and this benchmark's lie in files; take symmetric or asymmetric noise"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_before_anything_is_trained(
    tmp_path: Path, condition: str, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(AdmError, match=re.escape(told)):
        rows(tmp_path, condition, **changes)


def test_segmentation_takes_a_shift(tmp_path: Path) -> None:
    assert str(cells(tmp_path, SHIFT, **SEGMENTATION)["kd"].condition) == "shift to fog, jpeg at severity 3"


@pytest.mark.parametrize("suite", ["noise-cifar100", "shift-cifar100", "shift-camvid"])
def test_the_suites_under_conditions_name_one_in_every_cell(suite: str) -> None:
    expansion = expand(suite)
    assert all(planned.cell.condition for planned in expansion.cells)
    assert len({row.cell.condition for row in expansion.rows}) == (3 if suite == "noise-cifar100" else 1)


@pytest.fixture(scope="module")
def systems() -> tuple[PlannedCell, ...]:
    """The rows of one seed of the suite of the nine systems, as stated; tuned, each has its own best settings."""
    return tuple(row for row in trials_of("systems-quick", 1, 1).suite.rows if row.cell.seed == 0)


@pytest.mark.parametrize(
    ("system", "condition"),
    [("dualchecker", "noise"), ("atsen", "noise"), ("clda", "shift"), ("pets", "shift")]
    + [(name, "") for name in ("online-module", "embeddistill", "dpk", "iekd", "wcord")],
)
def test_each_system_stands_beside_controls_that_differ_in_its_settings_alone(
    systems: tuple[PlannedCell, ...], system: str, condition: str
) -> None:
    own = [row for row in systems if any(part.name == system for part in row.cell.method)]
    assert len({row.cell.id for row in own}) == len(own) >= 2
    (block,) = {row.block for row in own}
    assert {"none"} < {row.cell.method_name for row in systems if row.block == block}
    alike = {
        row.cell.model_copy(
            update={"method": tuple(part for part in row.cell.method if part.name != system)}
        ).model_dump_json()
        for row in own
    }
    assert len(alike) == 1
    told = own[0].cell.condition
    assert {name for name in ("noise", "shift") if told and getattr(told, name)} == (
        {condition} if condition else set()
    )
