"""Operations of a training step against what a hand counts."""

import pytest

from adm_core.compute import training_flops
from adm_core.recipe import Optimizer, Recipe
from tests.core.toy import ToyTask, trainer

RECIPE = Recipe(epochs=2, batch_size=16, optimizer=Optimizer(lr=0.05))


def forward(width, classes=4):
    """Of one image: convolutions to 8x8, 4x4 and 4x4 positions, the classifier; two operations per multiply-add."""
    convolutions = 9 * (3 * width * 64 + 2 * width * width * 16 + 8 * width * width * 16)
    return 2 * (convolutions + 4 * width * classes)


def count(method, regime, recipe=RECIPE, settings=None):
    trained = trainer(recipe, method, regime, settings=settings)
    return training_flops(trained, next(ToyTask().batches(0, 0)))


def test_a_network_alone_costs_its_forward_pass_and_twice_as_much_backward():
    assert count("none", "alone") == 16 * 3 * forward(8)


def test_a_frozen_teacher_adds_its_forward_pass_where_it_is_read():
    assert count("none", "offline") == 16 * 3 * forward(8)
    assert count("kd", "offline") == 16 * (3 * forward(8) + forward(12))


def test_a_teacher_that_trains_along_costs_as_the_student_does():
    assert count("none", "online") == count("dml", "online") == 16 * 3 * (forward(8) + forward(12))


def test_micro_batches_cost_together_what_the_batch_does():
    assert count("kd", "offline", RECIPE.model_copy(update={"accumulate": 4})) == count("kd", "offline")


def test_phases_count_by_their_share_of_training():
    first, middle, last = (
        count("ab", "offline", RECIPE.model_copy(update={"epochs": 20}), {"ab": {"share": share}})
        for share in (0.25, 0.5, 0.75)
    )
    assert first != last and middle == pytest.approx((first + last) / 2)
