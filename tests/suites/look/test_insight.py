"""``adm insight`` on networks trained here: from a suite's run to tables, words and pictures; and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import adm, refusal
from matplotlib.image import imread

from adm_core.errors import AdmError
from adm_core.task import TaskContext
from results.records.schema import Manifest, ManifestRow, Primary, Record
from results.records.store import Store
from suites.spec.definition import load_protocol
from suites.spec.expand import expand
from tasks import datasets
from tasks.classification.task import ClassificationTask

RECIPE = """title: two batches
source: tests
task: classification
recipe: {epochs: 1, batch_size: 64, optimizer: {name: adamw, lr: 0.004}}
data: {train_limit: 128, test_limit: 120, crop_padding: 1, flip: false}
"""
TASK = "task: classification\n    benchmark: digit-scenes@1\n    protocol: ./recipe.yaml"
SUITE = f"""title: A suite to look at
blocks:
  - title: Online
    {TASK}
    pairs: [resnet8w8s2 > resnet8w8s2]
    regime: online
    methods:
      - none
      - adm
      - {{method: adm, label: projected, settings: {{adm: {{form: M, width: projector}}}}}}
    seeds: [0, 1]
  - title: Offline
    {TASK}
    pairs: [resnet8w8s2 > resnet8w8s2]
    regime: offline
    methods: [kd, kd+adm]
    seeds: [0]
"""
COUNT = ("--images", 60, "--device", "cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the suite ``mine`` was run."""
    folder = tmp_path_factory.mktemp("insight")
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "mine.yaml").write_text(SUITE)
    answer = adm("run", folder / "mine.yaml", "--store", folder / "runs", "--executor", "inline", "--device", "cpu")
    assert answer.code == 0, answer
    return folder / "runs"


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of it to do harm to."""
    return Path(shutil.copytree(trained, tmp_path / "copied"))


def ids(store: Path, label: str) -> list[str]:
    return [row.id for row in Store(store).read_manifest("mine").rows if row.label == label]


def test_a_suite_is_measured_told_in_words_and_pictured(trained: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    out = tmp_path / "seen"
    answer = adm("insight", "mine", "--store", trained, *COUNT, "--out", out, "--pictures", 2)
    assert answer.code == 0, answer
    for words in (
        "Insight 1 (student and",
        "Insight 2 (the teacher",
        "Insight 3 (activations",
        "With ADM the student's",
    ):
        assert words in answer.out
    assert "adm − none" in answer.out and "kd+adm − kd" in answer.out
    assert "! projected: its S was read through a trained projector" in answer.out
    names = {"insight.md", "insight.tex", "insight.csv", "examples.png", "example-1.png", "example-2.png"}
    assert {path.name for path in out.iterdir()} == names
    assert all(str(out / name) in answer.err for name in names)
    assert imread(out / "examples.png").std() > 0.1
    rows = list(csv.DictReader((out / "insight.csv").open()))
    assert {row["table"] for row in rows} == {"insight-1", "insight-2", "insight-3", "insight-4"}
    assert all(0 < float(row["auc"]) < 1 for row in rows if row["table"] == "insight-1" and row["auc"])
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_json_has_every_number_and_is_the_same_twice(trained: Path) -> None:
    first = adm("insight", "mine", "--store", trained, *COUNT, "--json")
    assert first.out == adm("insight", "mine", "--store", trained, *COUNT, "--json").out
    agreement = next(table for table in first.json if table["table"] == "insight-1" and table["regime"] == "online")
    none = next(row for row in agreement["rows"] if row["label"] == "none")
    assert none["n"] == 2 and none["auc_low"] <= none["auc"] <= none["auc_high"]
    change = next(table for table in first.json if table["table"] == "insight-4" and table["regime"] == "offline")
    assert [row["label"] for row in change["rows"]] == ["kd+adm − kd"]


def test_a_cell_is_looked_at_alone_and_agrees_with_its_suite(trained: Path) -> None:
    alone = adm("insight", ids(trained, "kd")[0], "--store", trained, *COUNT, "--json").json
    suite = adm("insight", "mine", "--store", trained, *COUNT, "--json").json
    offline = [table for table in suite if table["regime"] == "offline"]
    for name, key in (("insight-1", "auc"), ("insight-2", "gap_area"), ("insight-3", "top")):
        one, other = (
            next(
                row[key] for table in tables if table["table"] == name for row in table["rows"] if row["label"] == "kd"
            )
            for tables in (alone, offline)
        )
        assert one == pytest.approx(other, abs=1e-9)


def test_examples_come_with_their_own_masks() -> None:
    protocol = load_protocol("smoke")[1]
    task = ClassificationTask(TaskContext("digit-scenes@1", protocol, 0, torch.device("cpu")))
    shown = list(task.object_examples(50))
    images, objects = (torch.cat([getattr(one, name) for one in shown]) for name in ("images", "objects"))
    assert images.dtype == torch.uint8 and objects.dtype == torch.bool and len(images) == len(objects) == 50
    test = datasets.load("digit-scenes", "test", [], False)
    where = {image.tobytes(): index for index, image in enumerate(test.images)}
    found = [where[image.numpy().tobytes()] for image in images]
    assert found == sorted(found)
    assert np.array_equal(objects.numpy(), test.masks[found].astype(bool))
    targets = torch.cat([one.batch.target for one in shown])
    assert targets.tolist() == test.labels[found].tolist() and targets.bincount().tolist() == [5] * 10
    task.test = task.test.__class__(task.test.images, task.test.labels, task.test.classes)
    with pytest.raises(AdmError, match="have no object masks"):
        list(task.object_examples(5))


def test_a_store_without_weights_is_one_clear_error(copied: Path) -> None:
    gone = ids(copied, "none")[1]
    (copied / "work" / gone / "teacher.safetensors").unlink()
    message = refusal("insight", "mine", "--store", copied, *COUNT)
    assert "no trained weights of 1 of 8 finished cells (online resnet8w8s2 > resnet8w8s2, none, seed 1)" in message
    assert "'adm run SUITE --store FOLDER' with a fresh folder" in message
    shutil.rmtree(copied / "work")
    assert "of 8 of 8 finished cells" in refusal("insight", "mine", "--store", copied)


def test_unfinished_cells_are_left_out_aloud(copied: Path) -> None:
    for cell in ids(copied, "adm"):
        (copied / "records" / f"{cell}.json").unlink()
    answer = adm("insight", "mine", "--store", copied, *COUNT)
    assert answer.code == 0 and "not finished and left out: 2 of 8 cells" in answer.err
    assert "! adm: 2 not run" in answer.out
    for path in (copied / "records").glob("*.json"):
        path.unlink()
    assert "no cell of it" in refusal("insight", "mine", "--store", copied)


def test_a_benchmark_without_masks_names_those_that_have_them(tmp_path: Path) -> None:
    row = expand("cifar100-smoke").rows[0]
    primary = Primary(metric="top1", higher_is_better=True, unit="%", selection="last")
    Store(tmp_path).write_record(
        Record(id=row.id, cell=row.cell, status="ok", scores={"student": {"top1": 50.0}}, primary=primary)
    )
    place = ManifestRow(cell=row.cell, id=row.id, label=row.label, block=row.block)
    Store(tmp_path).write_manifest(Manifest(suite="photos", title="photos", rows=[place]))
    message = refusal("insight", "photos", "--store", tmp_path)
    assert "cifar100@1 has not" in message and "digit-scenes@1" in message and "shape-scenes@3" in message


def test_other_bad_input_is_one_clear_error(trained: Path, tmp_path: Path) -> None:
    assert "holds no run of it" in refusal("insight", "smoke", "--store", trained)
    assert "nothing has been run" in refusal("insight", "smoke", "--store", tmp_path)
    alone = next(
        p.stem for p in (trained / "records").glob("*") if json.loads(p.read_text())["cell"]["regime"] == "alone"
    )
    assert "there is no teacher to hold it against" in refusal("insight", alone, "--store", trained)
    projected = ids(trained, "projected")[0]
    assert "no cell can be measured: its S was read" in refusal("insight", projected, "--store", trained, *COUNT)
    assert "begins with" in refusal("insight", "0" * 16, "--store", trained)
