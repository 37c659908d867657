"""The task's batches and facts are those that a method's needs ask for, in memory and on folders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adm_core.benchmark_definition import BenchmarkDefinition
from adm_core.errors import AdmError
from adm_core.method import Needs
from adm_core.recipe import Optimizer, Protocol, Recipe
from adm_core.task import TaskContext
from tasks.classification.task import ClassificationTask

RECIPE = Recipe(epochs=2, batch_size=8, optimizer=Optimizer(name="sgd", lr=0.1))


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> BenchmarkDefinition:
    """A folder of five classes, four images each in either split."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split in ("train", "test"):
        for name in range(5):
            folder = root / split / f"n{name}"
            folder.mkdir(parents=True)
            for number in range(4):
                Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    splits = {split: root / split for split in ("train", "test")}
    return BenchmarkDefinition("own", 5, 32, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), splits, "0" * 64)


def open_task(benchmark: str, own: BenchmarkDefinition, needs: Needs, **data: Any) -> ClassificationTask:
    protocol = Protocol(title="test", source="test", task="classification", recipe=RECIPE, data=data)
    given = own if benchmark == "own" else None
    return ClassificationTask(TaskContext(benchmark, protocol, 0, torch.device("cpu"), needs=needs, own=given))


@pytest.mark.parametrize("benchmark", ["digit-scenes@1", "own"])
def test_batches_are_those_that_the_needs_ask_for(own, benchmark) -> None:
    batch = next(open_task(benchmark, own, Needs()).batches(0, 0))
    assert batch.extra_input is None and batch.student_input is batch.teacher_input
    needs = Needs(views="own", extra_view="strong", per_class=2)
    batch = next(open_task(benchmark, own, needs).batches(0, 0))
    assert batch.student_input.shape == batch.teacher_input.shape == batch.extra_input.shape
    assert not torch.equal(batch.student_input, batch.teacher_input)
    assert not torch.equal(batch.extra_input, batch.teacher_input)
    assert batch.target.unique(return_counts=True)[1].tolist() == [2] * 4


@pytest.mark.parametrize("benchmark", ["digit-scenes@1", "own"])
def test_facts_know_the_class_of_every_training_example(own, benchmark) -> None:
    task = open_task(benchmark, own, Needs())
    facts = task.facts()
    assert facts.labels is not None and facts.labels.dtype == torch.int64 and len(facts.labels) == facts.examples
    assert (facts.batch_size, facts.steps) == (8, 2 * task.steps_per_epoch)
    for batch in task.batches(1, 0):
        assert torch.equal(facts.labels[batch.index], batch.target)


@pytest.mark.parametrize("benchmark", ["digit-scenes@1", "own"])
def test_case_19_splits_are_carved_and_limited_in_equal_parts(own, benchmark) -> None:
    """megvii-research/mdistiller#45: image folders passed the plan and ended every cell in AttributeError."""
    task = open_task(benchmark, own, Needs(), validation=0.25, train_limit=10, test_limit=10)
    counts = [np.bincount(split.labels) for split in (task.train, task.validation, task.test)]
    assert len(set(counts[0])) == len(set(counts[2])) == 1 and counts[1].max() - counts[1].min() <= 1
    assert len(task.train) == len(task.test) == 10 and task.has_validation
    scores = task.evaluate({"student": task.network("resnet8w8s2")}, "validation")
    assert 0 <= scores["student"]["top1"] <= 100
    if benchmark == "own":
        assert not set(task.train.files) & set(task.validation.files)
        whole = open_task(benchmark, own, Needs(), validation=0.25)
        assert len({*whole.train.files, *whole.validation.files}) == 20


def test_case_02_a_folder_of_other_classes_is_refused(own) -> None:
    """hunto/DIST_KD#7: labels of a folder with fewer classes are not those that a teacher knows."""
    with pytest.raises(AdmError, match=r"^benchmark own, train: found 5 classes, the benchmark has 7; a folder of"):
        open_task("own", replace(own, classes=7), Needs())


def test_case_04_settings_that_a_folder_would_ignore_are_refused_by_name(own) -> None:
    with pytest.raises(AdmError, match=r"key 'data\.crop_padding' = 4: images in folders are cropped by .* say 0$"):
        open_task("own", own, Needs(), crop_padding=4)
    with pytest.raises(AdmError, match=r"key 'data\.scored' = .*: scored 'validation' leaves no test images to limit"):
        open_task("own", own, Needs(), validation=0.25, scored="validation", test_limit=5)
    with pytest.raises(
        AdmError, match=r"benchmark 'own' has no split 'validation' of its own, only train, test; carve"
    ):
        open_task("own", own, Needs(), validation="own")
    assert open_task("own", own, Needs(), crop_padding=0).settings.crop_padding == 0
