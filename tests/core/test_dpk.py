"""DPK: CKA and the term against literal loops, r that follows CKA, its controls, and a training that resumes."""

import math

import pytest
import torch

from adm_core import registry
from adm_core.losses import examples
from adm_core.testing.networks import tiny_facts
from tests.core.literal import numbers, view
from tests.core.resuming import whole_and_resumed
from tests.core.toy import make_step

B, SIDE, WIDTHS = 3, 3, (2, 4)


def centred(rows):
    means = [sum(row[d] for row in rows) / len(rows) for d in range(len(rows[0]))]
    return [[value - mean for value, mean in zip(row, means, strict=True)] for row in rows]


def literal_cka(x, y):
    """Frobenius norms of the products of dimensions, entry by entry."""

    def squared_norm(a, b):
        pairs = ((i, j) for i in range(len(a[0])) for j in range(len(b[0])))
        return sum(sum(p[i] * q[j] for p, q in zip(a, b, strict=True)) ** 2 for i, j in pairs)

    x, y = centred(x), centred(y)
    return squared_norm(y, x) / math.sqrt(squared_norm(x, x) * squared_norm(y, y))


def test_cka_is_the_literal_ratio_of_norms():
    x, y = numbers(0, 5, 3), numbers(1, 5, 4)
    assert float(examples.linear_cka(x, y)) == pytest.approx(literal_cka(x.tolist(), y.tolist()), rel=1e-9)


def test_cka_of_turned_and_scaled_features_is_one():
    x = numbers(0, 6, 4)
    turn = torch.linalg.qr(numbers(1, 4, 4)).Q
    assert float(examples.linear_cka(x, 3 * x @ turn + 7)) == pytest.approx(1, abs=1e-9)


def test_cka_of_pixels_is_that_of_the_valid_ones():
    x, y, mask = numbers(0, 5, 2, 2, 2), numbers(1, 5, 3, 2, 2), torch.ones(5, 4, 4, dtype=torch.bool)
    mask[:, :2, 2:], mask[3] = False, False
    places, kept = [0, 2, 3], [0, 1, 2, 4]
    rows = [f.flatten(2)[kept][:, :, places].flatten(1).tolist() for f in (x, y)]
    assert float(examples.linear_cka(x, y, mask)) == pytest.approx(literal_cka(*rows), rel=1e-9)


def built(**settings):
    method = registry.create("dpk", {"dpk": settings})
    shapes = ({"last": (B, width, SIDE, SIDE)} for width in WIDTHS)
    method.take(method.build(*shapes, tiny_facts()))
    for index, p in enumerate(p for part in method.parts.values() for p in part.parameters()):
        p.data = numbers(index, *p.shape)
    return method


def pair(trains=False):
    maps = [numbers(9 + n, B, width, SIDE, SIDE).requires_grad_(trains) for n, width in enumerate(WIDTHS)]
    target = torch.zeros(B, dtype=torch.int64)
    return maps, [view(numbers(8, B, 5), target, last=each) for each in maps]


def seeded():
    return make_step(torch.zeros(B, dtype=torch.int64), 0.5, torch.Generator().manual_seed(4))


def convolved(x, layer):
    """A 3×3 convolution of a map [C, H, W], padded with zeros, place by place."""
    width, _, size, _ = layer.weight.shape
    reach = size // 2
    rows = []
    for i in range(SIDE):
        for j in range(SIDE):
            value = layer.bias.clone()
            for di in range(-reach, reach + 1):
                for dj in range(-reach, reach + 1):
                    if 0 <= i + di < SIDE and 0 <= j + dj < SIDE:
                        value = value + layer.weight[:, :, reach + di, reach + dj] @ x[:, i + di, j + dj]
            rows.append(value)
    return torch.stack(rows, 1).view(width, SIDE, SIDE)


def test_term_and_gradients_are_the_literal_loop():
    method, (maps, views) = built(ratio=0.6, weight=2.0), pair(trains=True)
    term = method.losses(*views, seeded()).student["restored"]
    own_positions = torch.rand(B, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(4)) >= 1 - 0.6
    errors, (first, _, second) = [], method.parts["generator"]
    for s, t, kept in zip(maps[0], maps[1].detach(), own_positions[:, 0], strict=True):
        hybrid = torch.where(kept, convolved(s, method.parts["adapter"]), t)
        restored = convolved(convolved(hybrid, first).relu(), second)
        errors += [(restored[:, i, j] - t[:, i, j]).pow(2).mean() for i, j in kept.nonzero().tolist()]
    expected = 2 * sum(errors) / len(errors)
    assert 0 < len(errors) < B * SIDE**2
    assert float(term.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    trained = [maps[0], *(p for part in method.parts.values() for p in part.parameters())]
    for found, known in zip(torch.autograd.grad(term, trained), torch.autograd.grad(expected, trained), strict=True):
        torch.testing.assert_close(found, known, rtol=1e-6, atol=1e-9)


def test_r_follows_cka_within_its_bounds():
    method, (maps, views) = built(momentum=0.6), pair()
    likeness = literal_cka(*(m.flatten(1).tolist() for m in maps))
    assert float(method.losses(*views, seeded()).log["ratio"]) == 0.5
    method.after_step()
    now = method.losses(*views, seeded()).log["ratio"]
    assert float(now) == pytest.approx(0.6 * 0.5 + 0.4 * likeness, rel=1e-5)
    same = [views[1], views[1]]
    method.parts["adapter"] = torch.nn.Identity()
    for _ in range(20):
        method.losses(*same, seeded())
        method.after_step()
    assert float(method.parts["ratio"].value) == pytest.approx(0.95)


def test_a_constant_ratio_stays():
    method, (_, views) = built(dynamic=False, ratio=0.3), pair()
    for _ in range(3):
        method.losses(*views, seeded())
        method.after_step()
    assert float(method.parts["ratio"].value) == pytest.approx(0.3)


def test_without_prior_it_is_mgd_that_hides_nothing():
    """A mean over channels and positions here, a sum for each example there."""
    method, (_, views) = built(dynamic=False, ratio=1.0), pair()
    mgd = registry.create("mgd", {"mgd": {"ratio": 0.0, "weight": 1.0}})
    mgd.take(method.parts)
    found, other = method.losses(*views, seeded()).student, mgd.losses(*views, seeded()).student
    torch.testing.assert_close(found["restored"], other["restored"] / (WIDTHS[1] * SIDE**2), rtol=1e-6, atol=0)


def test_r_travels_in_checkpoints(tmp_path, monkeypatch):
    run, trained = whole_and_resumed(tmp_path, monkeypatch, "dpk", "offline")
    shares = trained.curves["log.ratio"]
    assert shares[-1] != shares[0]
    assert float(run.distiller.parts["ratio"].value) != 0.5
