"""Online module: at zero it is the teacher, frozen it is KD, its terms are the literal ones, and it adapts."""

import math

import pytest
import torch

from adm_core import registry
from adm_core.losses.spatial import at_size
from adm_core.method import View
from adm_core.testing.networks import tiny_facts
from adm_core.testing.setup import Setup
from tests.core.literal import kl, numbers, softmax
from tests.core.resuming import whole_and_resumed
from tests.core.toy import make_step

B, K, WIDTH, T = 3, 4, 16, 2.0
TARGET = torch.tensor([2, 0, 3])


@pytest.mark.parametrize("form", ["images", "pixels", "denoisers"])
def test_at_zero_it_is_the_teacher_to_the_bit(form):
    setup = Setup("online-module", "offline", {}, form=form)
    views = setup.distiller.views(setup.batch(0))[0]
    residual = setup.method._residual(views["teacher"].detached())
    assert torch.equal(views["teacher"].prediction + residual, views["teacher"].prediction)
    frozen = Setup("online-module", "offline", {"online-module": {"frozen": True}}, form=form)
    ours, control = setup.losses_of(views, setup.batch(0)), frozen.losses_of(views, setup.batch(0))
    assert torch.equal(ours.student["teacher"], control.student["teacher"])
    assert not control.parts and not frozen.distiller.parts
    for seed in range(3):
        setup.step(seed)
    assert not torch.equal(setup.method._residual(views["teacher"].detached()), residual)


@pytest.mark.parametrize("form", ["images", "pixels"])
def test_the_frozen_control_is_kd_beside_the_whole_task_loss(form):
    own = Setup("online-module", "offline", {"online-module": {"frozen": True}}, form=form)
    kd = Setup("kd", "offline", {"kd": {"weight": 1.0, "task_weight": 1.0}}, form=form)
    assert [own.step(seed) for seed in range(3)] == [kd.step(seed) for seed in range(3)]


def adapted(method, seen):
    """The teacher's logits and the residual, written out for one example."""
    first, _, last = method.parts["module"]
    rows = seen.flatten(2).transpose(1, 2)
    hidden = (rows @ first.weight[:, :, 0, 0].T + first.bias).clamp_min(0)
    return (hidden @ last.weight[:, :, 0, 0].T + last.bias).mean(1)


def test_terms_and_gradients_are_the_literal_ones():
    settings = {"weight": 2.0, "back_weight": 3.0, "anchor": 0.5, "temperature": T}
    method = registry.create("online-module", {"online-module": settings})
    shapes = {"last": (B, WIDTH, 2, 2), "prediction": (B, K)}
    method.take(method.build(shapes, shapes, tiny_facts()))
    trained = list(method.parts["module"].parameters())
    for seed, p in enumerate(trained):
        p.data = numbers(seed, *p.shape)
    z_s, z_t, seen = numbers(7, B, K).requires_grad_(), numbers(8, B, K), numbers(9, B, WIDTH, 2, 2)
    views = [View(z, "class_logits", {"last": seen}, torch.zeros(B)) for z in (z_s, z_t)]
    found = method.losses(*views, make_step(TARGET, 0.5, torch.Generator()))

    z_a = z_t + adapted(method, seen)
    p_s, p_t, p_a = ([softmax(row, T) for row in z.tolist()] for z in (z_s, z_t, z_a))
    labels = sum(-math.log(softmax(row)[y]) for row, y in zip(z_a.tolist(), TARGET.tolist(), strict=True)) / B

    def mean_kl(p, q):
        return T**2 * sum(kl(a, b) for a, b in zip(p, q, strict=True)) / B

    expected = {"labels": labels, "student": 3 * mean_kl(p_s, p_a), "anchor": 0.5 * mean_kl(p_t, p_a)}
    assert float(found.student["teacher"].detach()) == pytest.approx(2 * mean_kl(p_a, p_s), rel=1e-9)
    assert {name: float(term.detach()) for name, term in found.parts.items()} == pytest.approx(expected, rel=1e-6)

    # In closed form: the gradient of T² KL(p || q) at q's logits is T (q - p) / B, of CE p - y.
    prob = {"s": torch.tensor(p_s), "t": torch.tensor(p_t), "a": torch.tensor(p_a)}
    prob = {name: p.double() for name, p in prob.items()}
    (at_student,) = torch.autograd.grad(found.student["teacher"], z_s)
    torch.testing.assert_close(at_student, 2 * T * (prob["s"] - prob["a"]) / B, rtol=1e-6, atol=1e-6)
    one_hot = torch.nn.functional.one_hot(TARGET, K)
    at_adapted = z_a.detach().softmax(1) - one_hot
    at_adapted = at_adapted + 3 * T * (prob["a"] - prob["s"]) + 0.5 * T * (prob["a"] - prob["t"])
    expected_gradients = torch.autograd.grad(z_a, trained, at_adapted / B)
    for ours, known in zip(torch.autograd.grad(sum(found.parts.values()), trained), expected_gradients, strict=True):
        torch.testing.assert_close(ours, known, rtol=1e-6, atol=1e-6)


def test_of_denoisers_terms_are_squared_errors():
    setup = Setup("online-module", "offline", {}, form="denoisers")
    for seed in range(2):
        setup.step(seed)
    batch = setup.batch(5)
    views = setup.distiller.views(batch)[0]
    found, frozen = setup.losses_of(views, batch), views["teacher"].detached()
    own, changed = views["student"].prediction, frozen.prediction + setup.method._residual(frozen)
    expected = {
        "labels": (changed - batch.target).square().mean(),
        "student": (changed - own).square().mean(),
        "anchor": 0.1 * (changed - frozen.prediction).square().mean(),
    }
    for name, term in found.parts.items():
        torch.testing.assert_close(term, expected[name])
    torch.testing.assert_close(found.student["teacher"], (changed - own).square().mean())


def test_of_pixels_labels_are_read_at_the_predictions_valid_positions():
    setup = Setup("online-module", "offline", {}, form="pixels")
    batch = setup.batch(3)
    views = setup.distiller.views(batch)[0]
    z, valid = views["teacher"].prediction, at_size(batch.mask, (8, 8))
    each = -z.log_softmax(1).gather(1, batch.target[:, None, ::2, ::2]).squeeze(1)
    torch.testing.assert_close(setup.losses_of(views, batch).parts["labels"], each[valid].mean())


def test_the_module_learns_labels_from_what_the_teacher_sees():
    setup = Setup("online-module", "offline", {"online-module": {"back_weight": 0.0, "anchor": 0.0}})
    before = float(setup.losses().parts["labels"].detach())
    for _ in range(80):
        setup.step(0)
    assert float(setup.losses().parts["labels"].detach()) < 0.85 * before


def test_a_run_resumes_and_its_module_is_small(tmp_path, monkeypatch):
    settings = {"online-module": {"weight": 0.5}}
    whole, trained = whole_and_resumed(tmp_path, monkeypatch, "online-module", "offline", settings, epochs=8)
    assert trained.curves["validation.student.top1"][-1] > 60
    own = sum(p.numel() for p in whole.distiller.parts.parameters())
    assert own / sum(p.numel() for p in whole.distiller.teacher.parameters()) < 0.03
