"""Data frames of records: what rows there are, what they say, and that nothing is left out without a word."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from results import frame
from results.errors import RecordError
from results.records.schema import Cost, MethodPart
from results.records.store import Store
from tests.results.factory import by_id, failed, make_cell, make_manifest, make_record, make_row, write

COMMON = ["suite", "block", "label", "cell", "task", "benchmark", "protocol", "protocol_digest", "regime", "teacher",
          "student", "condition", "method", "settings", "stretch", "seed", "status", "reason"]  # fmt: skip


@pytest.fixture
def runs(tmp_path: Path) -> Store:
    """Cells that are ok, failed, skipped, damaged and not run, and one that no suite names."""
    part = MethodPart(name="kd", version=1, settings={"temperature": 4.0})
    none, kd = make_cell("none"), make_cell(parts=(part,))
    rest = [make_cell("at"), make_cell("fsp"), make_cell("vid"), make_cell("crd")]
    alone = make_cell("none", regime="alone")
    records = [
        make_record(none, 70.0, scores={"student": {"top1": 70.0, "nll": 1.5, "iou/car": 50.0, "mine": 3.0},
                                        "teacher": {"top1": 90.0, "nll": None}}),
        make_record(kd, 75.0, curves={"epoch": [1.0, 2.5], "lr": [0.1, 0.05], "validation.student.top1": [None, 75.0]}),
        failed(rest[0], "diverged", "loss is not finite"), failed(rest[1], "skipped", "has no stages"),
        make_record(alone, 90.0, teacher=None),
    ]  # fmt: skip
    cells = [none, kd, *rest]
    manifest = make_manifest([], rows=[make_row(cell, f"row {i}", "The block") for i, cell in enumerate(cells)])
    store = write(tmp_path / "runs", manifest, by_id(*records))
    store.record_path(rest[3].id).write_text("{")
    return store


def test_scores_have_a_row_per_network_and_metric_and_one_for_a_cell_without(runs: Store) -> None:
    found = frame.scores(runs, "tiny")
    assert list(found.columns) == [*COMMON, "network", "metric", "value", "unit", "primary", "higher_is_better"]
    first = found[found.label == "row 0"]
    assert list(zip(first.network, first.metric, first.value.fillna(-1), strict=True)) == [
        ("student", "top1", 70.0), ("student", "nll", 1.5), ("student", "iou/car", 50.0), ("student", "mine", 3.0),
        ("teacher", "top1", 90.0), ("teacher", "nll", -1),
    ]  # fmt: skip
    rest = found[found.status != "ok"]
    assert list(zip(rest.label, rest.status, strict=True)) == [
        ("row 2", "diverged"), ("row 3", "skipped"), ("row 4", "not run"), ("row 5", "unreadable")
    ]  # fmt: skip
    assert rest.value.isna().all() and rest.metric.isna().all() and not rest.primary.any()
    assert list(rest.reason.fillna(""))[:3] == ["loss is not finite", "has no stages", ""]
    damaged = runs.record_path(rest.cell.iloc[3]).name
    assert rest.reason.iloc[3].startswith(f"records/{damaged}: is damaged")


def test_scores_say_the_unit_and_the_better_direction_of_what_is_known(runs: Store) -> None:
    found = frame.scores(runs, "tiny")
    rows = found[(found.label == "row 0") & (found.network == "student")].set_index("metric")
    assert rows.unit.fillna("none").to_dict() == {"top1": "%", "nll": "none", "iou/car": "%", "mine": "none"}
    assert rows.primary.to_dict() == {"top1": True, "nll": False, "iou/car": False, "mine": False}
    assert rows.higher_is_better.drop("mine").to_dict() == {"top1": True, "nll": False, "iou/car": True}
    assert rows.higher_is_better.isna()["mine"]
    assert set(found[found.primary].network) == {"student", "teacher"}


def test_a_store_without_a_suite_gives_every_record_once_and_tells_what_is_damaged(runs: Store) -> None:
    for source in (runs, runs.root, str(runs.root)):
        found = frame.cost(source)
        assert sorted(found.cell) == sorted(path.stem for path in (runs.root / "records").iterdir()) and len(found) == 6
    assert found.suite.isna().all() and found.label.isna().all()
    damaged = found[found.status == "unreadable"]
    assert len(damaged) == 1 and damaged.method.isna().all() and damaged.seed.isna().all()
    (alone,) = found[found.regime == "alone"].teacher
    assert pd.isna(alone)


def test_records_that_were_read_already_are_a_source_too(runs: Store) -> None:
    records, _ = runs.records()
    found = frame.scores(records.values())
    assert set(found.cell) == set(records) and found.value.notna().sum() == 10
    with pytest.raises(RecordError, match="suite 'tiny': records alone do not say what it consists of"):
        frame.scores(records.values(), "tiny")


def test_cost_has_a_row_per_cell_and_a_column_per_measure(runs: Store) -> None:
    found = frame.cost(runs, "tiny")
    own = [
        name for field, about in Cost.model_fields.items() if not isinstance(about.default, dict) for name in [field]
    ]
    parts = ["parameters_student", "parameters_teacher", "flops_student"]
    assert list(found.columns) == [*COMMON, *own, *parts, "device", "threads", "attempts"]
    assert list(found.label) == [f"row {i}" for i in range(6)]
    assert (
        found.step_ms.iloc[0] == 10.0 and found.parameters_teacher.iloc[1] == 272_474 and found.step_ms[2:].isna().all()
    )
    assert found.settings.iloc[1] == '{"kd":{"temperature":4.0}}' and json.loads(found.settings.iloc[0])
    assert found.device.iloc[0] == "Test CPU" and found.threads.iloc[0] == 1


def test_curves_have_a_row_per_epoch_and_keep_the_epochs_of_the_record(runs: Store) -> None:
    found = frame.curves(runs, "tiny")
    assert list(found.columns) == [*COMMON, "curve", "epoch", "value"]
    assert set(found.label) == {"row 1"}
    assert list(zip(found.curve, found.epoch, found.value.fillna(-1), strict=True)) == [
        ("lr", 1.0, 0.1), ("lr", 2.5, 0.05),
        ("validation.student.top1", 1.0, -1), ("validation.student.top1", 2.5, 75.0),
    ]  # fmt: skip
    assert found.label.dtype == "category" and found.seed.dtype == "Int64"
    bare = make_record(make_cell("sp"), curves={"lr": [3.0, 2.0, 1.0]})
    assert list(frame.curves([bare]).epoch) == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("name", frame.FRAMES)
def test_a_frame_of_nothing_has_its_columns_and_their_types(name: str, runs: Store) -> None:
    empty, full = frame.FRAMES[name]([], None), frame.FRAMES[name](runs, "tiny")
    assert len(empty) == 0
    for column, kind in empty.dtypes.items():
        assert kind == full[column].dtype or kind == "category"


def test_a_folder_that_is_no_store_and_a_suite_that_is_not_there_are_named(tmp_path: Path, runs: Store) -> None:
    with pytest.raises(RecordError, match="nowhere': is no store: it has no folder 'records'"):
        frame.scores(tmp_path / "nowhere")
    with pytest.raises(RecordError, match="did you mean 'tiny'"):
        frame.curves(runs, "tinny")
