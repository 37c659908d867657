"""Methods that change the student's features or logits before they are compared: literal loops, and what is trained."""

import math

import pytest
import torch

from adm_core import losses
from adm_core.testing.setup import Setup
from tests.core.literal import numbers


def agree(ours, literal, leaf):
    """Values and gradients of two losses of a leaf, to 1e-6."""
    found = []
    for loss in (ours, literal):
        own = leaf.clone().requires_grad_()
        value = loss(own)
        found.append((value.detach(), torch.autograd.grad(value, own)[0]))
    (value, gradient), (expected, slope) = found
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(gradient, slope, rtol=1e-6, atol=1e-6 * float(slope.abs().max()))
    assert float(slope.abs().max()) > 0


def views(setup):
    shown = setup.distiller.views(setup.batch(0))[0]
    return shown["student"], shown["teacher"]


def test_vkds_distance_is_a_loop_over_channels():
    teacher = 3 * numbers(1, 4, 5) + 1

    def literal(s):
        total = 0
        for own, other in zip(s, teacher.tolist(), strict=True):
            mean = sum(other) / len(other)
            deviation = math.sqrt(sum((x - mean) ** 2 for x in other) / len(other) + 1e-5)
            for x, y in zip(own, other, strict=True):
                error = (x - (y - mean) / deviation).abs()
                total = total + (error**2 / 2 if error < 1 else error - 0.5)
        return total / teacher.numel()

    agree(lambda s: losses.features.normalised_distance(s, teacher).mean(), literal, 2 * numbers(0, 4, 5))


@pytest.mark.parametrize("widths", [(8, 12), (12, 8), (8, 8)])
def test_vkds_projector_stays_orthogonal_while_it_is_trained(widths):
    setup = Setup("vkd", "offline", {"vkd": {"weight": 100.0}}, widths)
    projector = setup.distiller.parts["projector"]
    before = projector.weight.detach().clone()
    for seed in range(3):
        setup.step(seed)
    weight = projector.weight.detach()
    assert not torch.allclose(before, weight, atol=1e-3)
    gram = weight.T @ weight if widths[0] <= widths[1] else weight @ weight.T
    torch.testing.assert_close(gram, torch.eye(len(gram)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", ["images", "pixels"])
def test_vkd_reads_the_mean_of_an_image_and_every_position_of_a_dense_prediction(form):
    setup = Setup("vkd", "offline", {"vkd": {"weight": 2.0}}, form=form)
    student, teacher = views(setup)
    own, other, weight = student.features["last"], teacher.features["last"], setup.distiller.parts["projector"].weight
    if form == "images":
        pairs = [(o.mean((1, 2)), t.mean((1, 2))) for o, t in zip(own, other, strict=True)]
    else:
        mask = setup.batch(0).mask[:, ::2, ::2]
        pairs = [(own[b, :, y, x], other[b, :, y, x]) for b, y, x in mask.nonzero().tolist()]
    total = sum(float(losses.features.normalised_distance(weight @ o, t)) for o, t in pairs)
    found = float(setup.losses(0).student["projected"].detach())
    assert found == pytest.approx(2 * total / len(pairs), rel=1e-4)
