"""IE-KD: both phases against literal loops, the two halves, what rests when, and a training that resumes."""

import pytest
import torch

from adm_core import registry
from adm_core.losses import features
from adm_core.method import View
from adm_core.testing.networks import tiny_facts
from adm_core.testing.setup import Setup
from tests.core.literal import numbers
from tests.core.resuming import whole_and_resumed
from tests.core.toy import make_step

B, SIDE, WIDTHS = 3, 4, (6, 8)


def literal(a, b):
    """Mean absolute difference of rows [N][D], each divided by its length."""
    total = 0
    for x, y in zip(a, b, strict=True):
        n_x, n_y = (sum(v * v for v in row) ** 0.5 for row in (x, y))
        total = total + sum(abs(p / n_x - q / n_y) for p, q in zip(x, y, strict=True)) / len(x)
    return total / len(a)


@pytest.mark.parametrize("over", ["tensor", "positions"])
def test_distance_and_gradient_are_the_literal_ones(over):
    a, b = numbers(0, 2, 3, 2, 2).requires_grad_(), numbers(1, 2, 3, 2, 2)
    mask = torch.ones(2, 2, 2, dtype=torch.bool)
    mask[0, 1], mask[1, 0, 0] = False, False

    def rows(x):
        if over == "tensor":
            return list(x.flatten(1))
        return [x[n, :, i, j] for n in range(2) for i in range(2) for j in range(2) if mask[n, i, j]]

    found = features.factor_distance(a, b, over, mask if over == "positions" else None)
    expected = literal(rows(a), rows(b))
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-9)
    torch.testing.assert_close(torch.autograd.grad(found, a), torch.autograd.grad(expected, a), rtol=1e-6, atol=1e-9)


def built(**settings):
    method = registry.create("iekd", {"iekd": settings})
    shapes = ({"last": (B, width, SIDE, SIDE), "prediction": (B, 5)} for width in WIDTHS)
    torch.manual_seed(0)
    method.take({name: part.double() for name, part in method.build(*shapes, tiny_facts()).items()})
    return method


def pair():
    maps = [numbers(9 + n, B, width, SIDE, SIDE).requires_grad_() for n, width in enumerate(WIDTHS)]
    return maps, [View(numbers(8, B, 5), "class_logits", {"last": each}, torch.zeros(B)) for each in maps]


def circumstances(phase):
    step = make_step(torch.zeros(B, dtype=torch.int64), 0.5, torch.Generator())
    object.__setattr__(step, "phase", phase)
    return step


def normed(x, layer, statistics):
    """A batch normalisation written out, by the batch's statistics or by those that are kept."""
    mean, var = (layer.running_mean, layer.running_var) if statistics == "kept" else (
        x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
    )  # fmt: skip
    scaled = (x - mean[:, None, None]) / (var[:, None, None] + layer.eps).sqrt()
    return scaled * layer.weight[:, None, None] + layer.bias[:, None, None]


def encoded(x, layers, statistics="batch"):
    for convolution, norm in zip(layers[::3], layers[1::3], strict=True):
        x = normed(torch.nn.functional.conv2d(x, convolution.weight, padding=1), norm, statistics)
        x = torch.where(x > 0, x, 0.1 * x)
    return x


def test_the_auto_encoder_learns_to_restore_the_teachers_map_while_the_networks_rest():
    method, (maps, views) = built(), pair()
    found = method.losses(*views, circumstances("auto-encoder"))
    layers, last = method.parts["decoder"]
    restored = last(encoded(encoded(maps[1].detach(), method.parts["teacher"]), layers))
    expected = (restored - maps[1].detach()).abs().mean()
    assert found.student_task == 0 and not found.student and set(found.parts) == {"reconstruction"}
    torch.testing.assert_close(found.parts["reconstruction"], expected, rtol=1e-9, atol=0)


def test_terms_and_gradients_are_the_literal_ones():
    method, (maps, views) = built(inherit_weight=2.0, explore_weight=3.0), pair()
    found = method.losses(*views, circumstances("")).student
    factors = encoded(maps[1].detach(), method.parts["teacher"], "kept").detach()
    expected = {}
    for name, weight, half in (("inheritance", 2, maps[0][:, :3]), ("exploration", -3, maps[0][:, 3:])):
        expected[name] = weight * literal(encoded(half, method.parts[name]).flatten(1), factors.flatten(1))
    assert found.keys() == expected.keys()
    for name, term in found.items():
        trained = [maps[0], *method.parts[name].parameters()]
        assert float(term.detach()) == pytest.approx(float(expected[name].detach()), rel=1e-6)
        both = (torch.autograd.grad(x, trained, retain_graph=True) for x in (term, expected[name]))
        for ours, theirs in zip(*both, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
    other = maps[0][:, 3:]
    gradient = torch.autograd.grad(found["inheritance"], maps[0], retain_graph=True)[0][:, 3:]
    assert torch.equal(gradient, torch.zeros_like(other))


def test_inheritance_alone_has_no_exploring_half():
    setup = Setup("iekd", "offline", {"iekd": {"explore_weight": 0.0}})
    assert "exploration" not in setup.distiller.parts
    assert set(setup.losses(progress=0.9).student) == {"inheritance"}


def test_student_and_factors_rest_in_turn(tmp_path, monkeypatch):
    settings = {"iekd": {"share": 0.5, "inherit_weight": 100.0, "explore_weight": 50.0}}
    setup = Setup("iekd", "offline", settings)
    student, parts = setup.distiller.student.head.weight, setup.distiller.parts
    before = student.detach().clone(), parts["teacher"][0].weight.detach().clone()
    setup.step(0, progress=0.1)
    assert torch.equal(student, before[0]) and not torch.equal(parts["teacher"][0].weight, before[1])
    factors = parts["teacher"].state_dict()
    kept = {name: value.clone() for name, value in factors.items()}
    for seed in range(3):
        setup.step(seed, progress=0.9)
    assert not torch.equal(student, before[0])
    assert all(torch.equal(parts["teacher"].state_dict()[name], value) for name, value in kept.items())
    _, trained = whole_and_resumed(tmp_path, monkeypatch, "iekd", "offline", settings, epochs=6)
    inherited, explored = (
        [x for x in trained.curves[f"train.student.{name}"] if x is not None and x == x]
        for name in ("inheritance", "exploration")
    )
    assert inherited[-1] < inherited[0] and explored[-1] < explored[0] < 0
