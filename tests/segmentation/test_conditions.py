"""Segmentation under a shift: scored on other pictures with the same labels, and pictures without labels."""

import numpy as np
import torch

from adm_core.condition import Condition, Shift
from adm_core.method import Needs
from adm_core.recipe import Optimizer, Protocol, Recipe
from adm_core.task import TaskContext
from tasks.segmentation.task import TASK

RECIPE = Recipe(epochs=1, batch_size=8, optimizer=Optimizer(name="sgd", lr=0.1))
SHIFT = Condition(shift=Shift(("fog", "impulse-noise"), 5))


def open_task(condition=None, needs=None, **data):
    given = {"crop": [48, 48], "flip": False, "train_limit": 24, "test_limit": 6, "class_limit": 0.75} | data
    protocol = Protocol(title="test", source="test", task="segmentation", recipe=RECIPE, data=given)
    return TASK(
        TaskContext("shape-scenes@3", protocol, 0, torch.device("cpu"), needs=needs or Needs(), condition=condition)
    )


def test_what_is_scored_looks_otherwise_and_has_the_same_labels():
    clean, task = open_task(), open_task(SHIFT)
    assert task.train.digest() == clean.train.digest() and np.array_equal(task.test.labels, clean.test.labels)
    assert all((a != b).any() for a, b in zip(task.test.images, clean.test.images, strict=True))
    network = task.network("pspnet-r18w8")
    scored = [opened.evaluate({"student": network}, "test")["student"] for opened in (clean, task)]
    assert scored[0] != scored[1]


def test_pictures_without_labels_stand_beside_the_same_labelled_ones():
    clean, task = open_task(), open_task(SHIFT, Needs(unlabelled=True))
    for plain, batch in zip(clean.batches(0, 0), task.batches(0, 0), strict=True):
        assert torch.equal(plain.student_input, batch.student_input) and torch.equal(plain.target, batch.target)
        assert batch.unlabelled_input.shape == batch.student_input.shape
        assert not torch.equal(batch.unlabelled_input, batch.student_input)
    assert torch.equal(next(task.batches(0, 2)).unlabelled_input, batch.unlabelled_input)


def test_crops_of_pictures_without_labels_do_not_depend_on_labels():
    task, other = open_task(SHIFT, Needs(unlabelled=True)), open_task(SHIFT, Needs(unlabelled=True))
    other.unlabelled._loader._loader.dataset._set.labels[:] = 0
    for one, two in zip(task.batches(0, 0), other.batches(0, 0), strict=True):
        assert torch.equal(one.unlabelled_input, two.unlabelled_input)
