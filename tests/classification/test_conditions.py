"""Image classification under label noise and under a shift: what is changed of a benchmark, and what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from adm_core.condition import Condition, LabelNoise, Shift
from adm_core.errors import AdmError, Unsupported
from adm_core.method import Needs
from adm_core.recipe import Optimizer, Protocol, Recipe
from adm_core.task import TaskContext
from tasks.classification.task import ClassificationTask
from tasks.datasets.shifts import shifted

RECIPE = Recipe(epochs=1, batch_size=50, optimizer=Optimizer(name="sgd", lr=0.1))
NOISE = Condition(noise=LabelNoise("symmetric", 0.3))
SHIFT = Condition(shift=Shift(("contrast", "gaussian-noise"), 5))
UNLABELLED = Needs(unlabelled=True)


def open_task(condition: Condition | None, needs: Needs | None = None, **data: Any) -> ClassificationTask:
    given = {"train_limit": 400, "test_limit": 60, "validation": 0.1, "crop_padding": 0, "flip": False} | data
    protocol = Protocol(title="test", source="test", task="classification", recipe=RECIPE, data=given)
    context = TaskContext("digit-scenes@1", protocol, 0, torch.device("cpu"), needs=needs or Needs())
    return ClassificationTask(TaskContext(**vars(context) | {"condition": condition}))


@pytest.mark.parametrize("scored", ["test", "validation"])
def test_noise_is_in_training_labels_alone_and_exact_after_carving_and_limiting(scored) -> None:
    data = {"scored": scored} | ({"test_limit": None} if scored == "validation" else {})
    clean, task = open_task(None, **data), open_task(NOISE, **data)
    assert (task.train.labels != clean.train.labels).sum() == 120 and len(task.train) == 400
    assert np.array_equal(task.train.images, clean.train.images)
    for split in ("validation", "test"):
        assert getattr(task, split).digest() == getattr(clean, split).digest()
    assert task.noise == {"digest": task.noisy.digest, "flipped": 120, "examples": 400} and clean.noise == {}
    assert task.data_digest() != clean.data_digest()


def test_batches_and_facts_hold_the_wrong_labels_and_nothing_that_tells_them() -> None:
    task = open_task(NOISE)
    labels = torch.from_numpy(task.train.labels)
    assert torch.equal(task.facts().labels, labels)
    for batch in task.batches(0, 0):
        assert torch.equal(batch.target, labels[batch.index])
    assert {name for name, value in vars(batch).items() if isinstance(value, torch.Tensor)} == {
        "student_input", "teacher_input", "target", "index",
    }  # fmt: skip


def test_what_was_learned_by_heart_is_scored() -> None:
    task = open_task(NOISE)
    network = task.network("resnet8w8s2")
    found = task.evaluate({"student": network}, "test")["student"]
    wrong = task.train.take(task.noisy.flipped)
    pixels = torch.from_numpy(wrong.images).float() / 255
    mean, std = (torch.tensor(task.spec[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        named = network.module.eval()((pixels - mean) / std).argmax(1)
    assert found["memorised"] == pytest.approx(100 * (named.numpy() == wrong.labels).mean())
    assert "memorised" not in task.evaluate({"student": network}, "validation")["student"]
    assert "memorised" not in open_task(None).evaluate({"student": network}, "test")["student"]


@pytest.mark.parametrize("scored", ["test", "validation"])
def test_under_a_shift_what_is_scored_looks_otherwise_and_what_is_trained_and_chosen_on_does_not(scored) -> None:
    data = {"scored": scored} | ({"test_limit": None} if scored == "validation" else {})
    clean, task = open_task(None, **data), open_task(SHIFT, **data)
    assert task.train.digest() == clean.train.digest() and task.validation.digest() == clean.validation.digest()
    assert np.array_equal(task.test.labels, clean.test.labels)
    assert (task.test.images != clean.test.images).mean() > 0.5
    assert all((a != b).any() for a, b in zip(task.test.images, clean.test.images, strict=True))


def test_pictures_without_labels_are_training_pictures_under_the_shift_in_an_order_of_their_own() -> None:
    clean, task = open_task(None), open_task(SHIFT, UNLABELLED)
    pairs = list(zip(clean.batches(0, 0), task.batches(0, 0), strict=True))
    for plain, batch in pairs:
        assert torch.equal(plain.student_input, batch.student_input) and torch.equal(plain.target, batch.target)
        assert batch.unlabelled_input.shape == batch.student_input.shape
    seen = torch.cat([batch.unlabelled_input for _, batch in pairs]).flatten(1)
    order = torch.cat([batch.index for _, batch in pairs])
    pixels = torch.from_numpy(shifted(clean.train, SHIFT.shift).images).float() / 255
    mean, std = (torch.tensor(task.spec[key]).view(3, 1, 1) for key in ("mean", "std"))
    wanted = ((pixels - mean) / std).flatten(1)
    distances = torch.cdist(seen.contiguous(), wanted, compute_mode="donot_use_mm_for_euclid_dist")
    assert distances.min(1).values.max() < 0.01 and distances.argmin(1).unique().numel() == 400
    assert (distances.argmin(1) == order).sum() < 10
    later = next(task.batches(0, 5)).unlabelled_input
    assert torch.equal(later, pairs[5][1].unlabelled_input)
    assert next(open_task(SHIFT).batches(0, 0)).unlabelled_input is None


@pytest.mark.parametrize("condition", [None, NOISE])
def test_without_a_shift_there_are_none(condition) -> None:
    with pytest.raises(Unsupported, match="needs pictures without labels, and only a block under a shift has some"):
        open_task(condition, UNLABELLED)


def test_both_at_once() -> None:
    both = Condition(NOISE.noise, SHIFT.shift)
    task, one, other = open_task(both, UNLABELLED), open_task(NOISE), open_task(SHIFT)
    assert task.train.digest() == one.train.digest() and task.test.digest() == other.test.digest()


def test_a_rate_that_flips_nothing_is_told() -> None:
    with pytest.raises(AdmError, match=r"a rate of 0\.001 of 400 labels is none"):
        open_task(Condition(noise=LabelNoise("symmetric", 0.001)))
