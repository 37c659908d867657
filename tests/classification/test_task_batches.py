"""The task's batches and facts are those that a method's needs ask for, in memory and on folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adm_core.method import Needs
from adm_core.recipe import Optimizer, Protocol, Recipe
from adm_core.task import TaskContext
from tasks.classification.task import ClassificationTask

RECIPE = Recipe(epochs=2, batch_size=8, optimizer=Optimizer(name="sgd", lr=0.1))


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> tuple[Path]:
    """A folder of data sets with an ImageNet of five classes, four images each."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split in ("train", "val"):
        for name in range(5):
            folder = root / "imagenet" / split / f"n{name}"
            folder.mkdir(parents=True)
            for number in range(4):
                Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return (root,)


def open_task(benchmark: str, roots: tuple[Path], needs: Needs) -> ClassificationTask:
    protocol = Protocol(title="test", source="test", task="classification", recipe=RECIPE, data={})
    return ClassificationTask(TaskContext(benchmark, protocol, 0, torch.device("cpu"), roots, needs))


@pytest.mark.parametrize("benchmark", ["digit-scenes@1", "imagenet@1"])
def test_batches_are_those_that_the_needs_ask_for(roots, benchmark) -> None:
    batch = next(open_task(benchmark, roots, Needs()).batches(0, 0))
    assert batch.extra_input is None and batch.student_input is batch.teacher_input
    needs = Needs(views="own", extra_view="strong", per_class=2)
    batch = next(open_task(benchmark, roots, needs).batches(0, 0))
    assert batch.student_input.shape == batch.teacher_input.shape == batch.extra_input.shape
    assert not torch.equal(batch.student_input, batch.teacher_input)
    assert not torch.equal(batch.extra_input, batch.teacher_input)
    assert batch.target.unique(return_counts=True)[1].tolist() == [2] * 4


@pytest.mark.parametrize("benchmark", ["digit-scenes@1", "imagenet@1"])
def test_facts_know_the_class_of_every_training_example(roots, benchmark) -> None:
    task = open_task(benchmark, roots, Needs())
    facts = task.facts()
    assert facts.labels is not None and facts.labels.dtype == torch.int64 and len(facts.labels) == facts.examples
    assert (facts.batch_size, facts.steps) == (8, 2 * task.steps_per_epoch)
    for batch in task.batches(1, 0):
        assert torch.equal(facts.labels[batch.index], batch.target)
