"""Methods that change the student's features or logits before they are compared: literal loops, and what is trained."""

import math

import pytest
import torch

from adm_core import losses
from adm_core.orthogonal import OrthogonalLinear
from adm_core.testing.setup import Setup
from tests.core.literal import numbers, softmax


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


@pytest.mark.parametrize(("inputs", "outputs"), [(5, 7), (7, 5), (6, 6)])
def test_vkds_projector_learns_and_stays_orthogonal_under_weight_decay(inputs, outputs):
    """torch's own parametrisation becomes zero in the first step with weight decay, where it is not square."""
    torch.manual_seed(0)
    layer = OrthogonalLinear(inputs, outputs)
    x = torch.randn(64, inputs)
    wanted = x @ OrthogonalLinear(inputs, outputs).matrix().detach().T
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.02, weight_decay=5e-2)
    found, moves = [], []
    for _ in range(200):
        before, loss = layer.matrix().detach(), (layer(x) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
        moves.append(float((layer.matrix().detach() - before).norm()))
    matrix = layer.matrix().detach()
    gram = matrix.T @ matrix if inputs <= outputs else matrix @ matrix.T
    torch.testing.assert_close(gram, torch.eye(len(gram)), rtol=0, atol=1e-5)
    assert found[-1] < 0.7 * found[0]
    assert max(moves) < 0.5  # a column whose sign jumps moves by two


@pytest.mark.parametrize("form", ["images", "pixels"])
def test_vkd_reads_the_mean_of_an_image_and_every_position_of_a_dense_prediction(form):
    setup = Setup("vkd", "offline", {"vkd": {"weight": 2.0}}, form=form)
    student, teacher = views(setup)
    own, other, weight = (
        student.features["last"],
        teacher.features["last"],
        setup.distiller.parts["projector"].matrix().detach(),
    )
    if form == "images":
        pairs = [(o.mean((1, 2)), t.mean((1, 2))) for o, t in zip(own, other, strict=True)]
    else:
        mask = setup.batch(0).mask[:, ::2, ::2]
        pairs = [(own[b, :, y, x], other[b, :, y, x]) for b, y, x in mask.nonzero().tolist()]
    total = sum(float(losses.features.normalised_distance(weight @ o.detach(), t)) for o, t in pairs)
    found = float(setup.losses(0).student["projected"].detach())
    assert found == pytest.approx(2 * total / len(pairs), rel=1e-4)


@pytest.mark.parametrize("exponent", [1.0, 1.4])
def test_ofas_loss_is_a_loop_over_classes(exponent):
    teacher, target = numbers(3, 4, 5), [0, 3, 4, 3]

    def literal(s):
        total = 0
        for own, other, label in zip(s, teacher.tolist(), target, strict=True):
            p, q = [x.exp() / own.exp().sum() for x in own], softmax(other)
            for c in range(5):
                is_target = float(c == label)
                total = total - ((q[c] + is_target) ** exponent - is_target) * p[c].log()
        return total / len(target)

    def ours(s):
        return losses.logits.target_enhanced(s, teacher, torch.tensor(target), exponent)

    agree(ours, literal, numbers(2, 4, 5))


def test_ofa_at_exponent_one_is_kd_at_temperature_one_but_for_a_constant():
    student, teacher = numbers(2, 4, 5).requires_grad_(), numbers(3, 4, 5)
    ofa = losses.logits.target_enhanced(student, teacher, torch.tensor([0, 3, 4, 3]), 1.0)
    kd = losses.logits.kl_divergence(student, teacher)
    slopes = [torch.autograd.grad(loss, student)[0] for loss in (ofa, kd)]
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-12)
    p = teacher.softmax(1)
    torch.testing.assert_close((ofa - kd).detach(), -(p * p.log()).sum(1).mean(), rtol=1e-9, atol=1e-12)


def test_ofas_branches_halve_the_map_for_every_stage_to_come_and_classify_its_mean():
    setup = Setup("ofa", "offline", {"ofa": {"weight": 2.0, "logit_weight": 3.0}})
    student, teacher = views(setup)
    branches, target, total = setup.distiller.parts["branches"], setup.batch(0).target, 0.0
    for number, (branch, side) in enumerate(zip(branches, (2, 2, 4), strict=True), start=1):
        *body, classifier = branch
        features = student.features[f"all-stages.{number}"].detach()
        for layer in body:
            features = layer(features)
        assert features.shape[1:] == (48, side, side)  # as wide as the wider network's last stage
        logits = features.mean((2, 3)) @ classifier.weight.detach()[:, :, 0, 0].T + classifier.bias.detach()
        total += float(losses.logits.target_enhanced(logits, teacher.prediction, target, 1.0).detach())
    found = setup.losses(0).student
    assert float(found["branches"].detach()) == pytest.approx(2 * total, rel=1e-5)
    own = losses.logits.target_enhanced(student.prediction, teacher.prediction, target, 1.0)
    assert float(found["logits"].detach()) == pytest.approx(3 * float(own.detach()), rel=1e-5)
