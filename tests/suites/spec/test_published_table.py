"""The table of published settings: what rows take from it, what goes above it, and that mistakes in it are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adm_core.errors import AdmError
from suites.spec.expand import PlannedCell, expand
from suites.spec.method_settings import settings_of
from suites.spec.names import suite_names
from suites.spec.published import load_published

SUITE = """title: mine
blocks:
  - title: Table
    task: classification
    benchmark: {benchmark}
    protocol: cifar100-30e
    pairs: [{pair}]
    regime: offline
    methods: [none, {methods}]
    seeds: [0]
{more}
"""
WKD = "wrn_40_2 > shufflenetv1"


def row(
    folder: Path,
    more: str = "published: true",
    methods: str = "wkd-f",
    pair: str = WKD,
    benchmark: str = "cifar100@1",
) -> PlannedCell:
    """The last row of a suite."""
    file = folder / "mine.yaml"
    file.write_text(SUITE.format(more=more, methods=methods, pair=pair, benchmark=benchmark))
    return expand(str(file)).rows[-1]


def settings(planned: PlannedCell, *keys: str, part: int = 0) -> list[Any]:
    return [settings_of(planned.cell.method[part])[key] for key in keys]


def test_a_row_takes_what_the_table_has_for_its_pair_and_benchmark(tmp_path: Path) -> None:
    """JiamingLv/WKD at 214cf88 for wrn_40_2 > ShuffleNetV1: weight 0.3, ratio 3, 4x4 cells."""
    published, default = [0.3, 3.0, 4], [0.08, 4.0, 1]
    keys = ("weight", "ratio", "grid")
    assert settings(row(tmp_path), *keys) == published
    assert settings(row(tmp_path, more=""), *keys) == default
    assert settings(row(tmp_path, pair="wrn_40_2 > shufflenetv2"), *keys) == default
    assert settings(row(tmp_path, benchmark="cifar10@1"), *keys) == default


def test_what_the_suite_says_itself_goes_above_the_table_setting_by_setting(tmp_path: Path) -> None:
    keys = ("weight", "ratio", "grid")
    own = "published: true\nsettings: {wkd-f: {weight: 1}}\nchosen: by hand\n"
    override = "overrides: [{when: {student: shufflenetv1}, settings: {wkd-f: {ratio: 2}}}]"
    assert settings(row(tmp_path, own), *keys) == [1.0, 3.0, 4]
    assert settings(row(tmp_path, own + override), *keys) == [1.0, 2.0, 4]
    entry = "{method: wkd-f, settings: {wkd-f: {ratio: 5}}}"
    assert settings(row(tmp_path, own + override, entry), *keys) == [1.0, 5.0, 4]


def test_settings_from_the_table_are_the_same_cell_as_settings_written_in_the_suite(tmp_path: Path) -> None:
    written = "settings: {wkd-f: {weight: 0.3, ratio: 3, grid: 4}}\nchosen: by hand"
    assert row(tmp_path).id == row(tmp_path, written).id != row(tmp_path, "").id


@pytest.mark.parametrize(
    ("more", "methods", "told"),
    [
        ("", "kd", "default"),
        ("published: true", "kd", "published"),
        ("published: true", "cc", "default"),
        ("published: true\nsettings: {kd: {weight: 2}}\nchosen: by hand", "kd", "stated"),
        ("published: true", "{method: kd, settings: {kd: {weight: 2}}}", "stated"),
        ("published: true", "kd+adm", "kd published; adm default"),
        (
            "published: true\nsettings: {adm: {consensus: 1}}\nchosen: by hand",
            "adm+kd+at",
            "kd, at published; adm stated",
        ),
        ("published: true", "{method: none, stretch: 2}", None),
    ],
)
def test_rows_tell_where_their_settings_come_from(tmp_path: Path, more: str, methods: str, told: str | None) -> None:
    assert row(tmp_path, more, methods).chosen == told


PRINTED: dict[str, dict[str, dict[str, Any]]] = {
    "dkd": {"resnet56 > resnet20": {"alpha": 1.0, "beta": 2.0}, "resnet32x4 > shufflenetv2": {"beta": 8.0},
            "resnet110 > resnet20": {"alpha": 1.0, "beta": 2.0, "temperature": 4.0}},
    "reviewkd": {"resnet56 > resnet20": {"weight": 0.6}, "resnet32x4 > shufflenetv2": {"weight": 8.0},
                 "resnet110 > resnet32": {"weight": 1.0}, "wrn_40_2 > shufflenetv1": {"weight": 5.0}},
    "cat-kd": {"resnet56 > resnet20": {"weight": 0.7, "side": 2, "normalise": False},
               "wrn_40_2 > wrn_16_2": {"weight": 12.0}, "wrn_40_2 > wrn_40_1": {"weight": 1.5},
               "wrn_40_2 > shufflenetv1": {"weight": 80.0, "side": 4, "normalise": True},
               "vgg13 > mobilenetv2": {"weight": 15.0, "side": 2, "normalise": True}},
    "sdd": {"resnet32x4 > resnet8x4": {"cells": (1, 2), "beta": 8.0},
            "resnet32x4 > shufflenetv1": {"cells": (1, 2, 4), "beta": 8.0},
            WKD: {"cells": (1, 2, 4), "beta": 8.0}, "vgg13 > vgg8": {"beta": 6.0},
            "resnet110 > resnet20": {"beta": 2.0}},
    "skd26": {"resnet32x4 > resnet8x4": {"weight": 0.5, "task_weight": 0.5}, "vgg13 > vgg8": {"weight": 0.9}},
    "wkd-l": {"resnet32x4 > resnet8x4": {"weight": 600.0, "temperature": 8.0},
              WKD: {"weight": 200.0, "temperature": 6.0}},
    "ft": {"vgg13 > vgg8": {"weight": 200.0, "factor": "attention"}},
    "kd+ls": {"resnet32x4 > resnet8x4": {"standardise": True, "temperature": 2.0, "weight": 9.0, "task_weight": 0.1},
              "resnet110 > resnet20": {"temperature": 4.0, "weight": 12.0},
              "vgg13 > mobilenetv2": {"temperature": 3.0, "weight": 9.0}},
    "dkd+ls": {"resnet32x4 > resnet8x4": {"standardise": True, "temperature": 2.0, "alpha": 9.0, "beta": 72.0},
               "resnet110 > resnet20": {"temperature": 2.0, "alpha": 15.0, "beta": 30.0},
               "resnet56 > resnet20": {"temperature": 3.0, "alpha": 18.0, "beta": 36.0}},
    "mlkd+ls": {"resnet32x4 > resnet8x4": {"temperatures": (2.0, 2.0, 3.0, 5.0, 6.0), "weight": 9.0},
                "vgg13 > vgg8": {"temperatures": (2.0, 2.0, 3.0, 5.0, 6.0), "weight": 6.0}},
    "deepkd": {"resnet50 > mobilenetv2": {"target_delta": -0.1}, "vgg13 > vgg8": {"target_delta": -0.075}},
}  # fmt: skip
"""Figures of the sources that the table names, for some pairs."""


def test_rows_of_the_offline_suite_have_the_settings_that_their_sources_print() -> None:
    rows = [row for row in expand("cifar100-offline").rows if row.cell.seed == 0]
    for method, pairs in PRINTED.items():
        for pair, printed in pairs.items():
            (found,) = (r for r in rows if r.label == method and f"{r.cell.teacher} > {r.cell.student}" == pair)
            given = settings_of(found.cell.method[0])
            plain = {key: tuple(given[key]) if isinstance(given[key], list) else given[key] for key in printed}
            assert (plain, found.chosen) == (printed, "published"), (method, pair)


def test_the_table_is_no_suite_and_says_where_everything_comes_from() -> None:
    assert "published" not in suite_names() and all(entry.source for entry in load_published())


ENTRY = "entries:\n  - source: a paper\n    task: {task}\n    benchmark: {benchmark}\n    {rest}\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rest": "settings: {dk: {beta: 2}}"}, "settings: unknown method 'dk'; did you mean dpk"),
        ({"rest": "settings: {dkd: {betta: 2}}"}, "settings: method 'dkd': unknown setting 'betta'; did you mean beta"),
        ({"rest": "settings: {dkd: {temperature: -1}}"}, "settings: method 'dkd'"),
        ({"rest": "pairs: {resnet57 > resnet20: {dkd: {beta: 2}}}"}, "pairs: unknown network 'resnet57'; did you mean"),
        ({"rest": "pairs: {'wrm_* > wrn_*': {dkd: {beta: 2}}}"}, "pairs: unknown network 'wrm_*'"),
        ({"rest": "pairs: {resnet56 > resnet20: {dkd: {betta: 2}}}"}, "pairs.resnet56 > resnet20: method 'dkd'"),
        ({"task": "clasification"}, "task: unknown task 'clasification'; did you mean classification"),
        ({"benchmark": "cifar1000"}, "benchmark: unknown benchmark 'cifar1000'; did you mean cifar10"),
    ],
)
def test_a_mistake_in_the_table_is_told_with_file_and_key(tmp_path: Path, change: dict[str, str], message: str) -> None:
    words = {"task": "classification", "benchmark": "cifar100", "rest": "settings: {dkd: {beta: 2}}"}
    (tmp_path / "right.yaml").write_text(ENTRY.format(**words))
    assert len(load_published(tmp_path / "right.yaml")) == 1
    file = tmp_path / "wrong.yaml"
    file.write_text(ENTRY.format(**words | change))
    with pytest.raises(AdmError) as raised:
        load_published(file)
    assert str(raised.value).startswith(f"{file}, entries.0 (a paper), {message}")


def test_a_pair_in_the_table_is_a_teacher_and_a_student(tmp_path: Path) -> None:
    file = tmp_path / "published.yaml"
    words = {"task": "classification", "benchmark": "cifar100", "rest": "pairs: {resnet20: {dkd: {beta: 2}}}"}
    file.write_text(ENTRY.format(**words))
    with pytest.raises(AdmError, match="a pair is written 'teacher > student'"):
        load_published(file)
