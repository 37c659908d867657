"""Losses on logits against an independent library or a slow literal loop of the published formula."""

import math

import pytest
import torch
from torchdistill.losses.mid_level import DISTLoss, KDLoss

from adm_core.losses import ensembles, logits, partitions


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(0)
    return torch.randn(6, 5, generator=g) * 3, torch.randn(6, 5, generator=g) * 3, torch.tensor([0, 4, 2, 2, 1, 3])


def io(tensor):
    return {"m": {"output": tensor}}


def softmax(row, temperature):
    exps = [math.exp(v / temperature) for v in row]
    return [e / sum(exps) for e in exps]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kl_is_torchdistills_soft_loss_times_squared_temperature(batch, temperature):
    s, t, _ = batch
    theirs = KDLoss("m", "output", "m", "output", temperature=temperature, beta=1.0)(io(s), io(t))
    assert torch.allclose(logits.kl_divergence(s, t, temperature), temperature**2 * theirs, atol=1e-6)


def test_kl_of_dense_predictions_is_the_mean_over_pixels(batch):
    g = torch.Generator().manual_seed(1)
    s, t = torch.randn(2, 5, 3, 4, generator=g), torch.randn(2, 5, 3, 4, generator=g)
    pixels = [kl(softmax(t[b, :, i, j].tolist(), 2), softmax(s[b, :, i, j].tolist(), 2)) * 4
              for b in range(2) for i in range(3) for j in range(4)]  # fmt: skip
    assert float(logits.kl_divergence(s, t, 2.0)) == pytest.approx(sum(pixels) / len(pixels), rel=1e-5)


def test_decoupled_kl_is_the_literal_formula(batch):
    s, t, y = batch
    alpha, beta, temperature = 1.5, 6.0, 4.0
    total = 0.0
    for row_s, row_t, label in zip(s.tolist(), t.tolist(), y.tolist(), strict=True):
        p, q = softmax(row_t, temperature), softmax(row_s, temperature)
        tckd = kl([p[label], 1 - p[label]], [q[label], 1 - q[label]])
        p_rest = [v / (1 - p[label]) for i, v in enumerate(p) if i != label]
        q_rest = [v / (1 - q[label]) for i, v in enumerate(q) if i != label]
        total += alpha * tckd + beta * kl(p_rest, q_rest)
    expected = temperature**2 * total / len(s)
    assert float(partitions.decoupled_kl(s, t, y, alpha, beta, temperature)) == pytest.approx(expected, rel=1e-4)


def test_decoupled_kl_with_beta_equal_to_the_other_probability_is_kd():
    """KD = TCKD + (1 - p_y) NCKD (arXiv:2203.08679, eq. 4), which ties DKD to KD for one example."""
    g = torch.Generator().manual_seed(2)
    s, t = torch.randn(1, 7, generator=g), torch.randn(1, 7, generator=g)
    y = torch.tensor([3])
    beta = 1 - float(t.softmax(1)[0, 3])
    ours = partitions.decoupled_kl(s, t, y, 1.0, beta, 1.0)
    assert torch.allclose(ours, logits.kl_divergence(s, t), atol=1e-6)


def test_decoupled_kl_is_finite_for_two_classes_and_extreme_logits():
    s = torch.tensor([[80.0, -80.0], [-3.0, 2.0]], requires_grad=True)
    t = torch.tensor([[-50.0, 50.0], [100.0, -100.0]])
    loss = partitions.decoupled_kl(s, t, torch.tensor([0, 1]), 1.0, 8.0, 4.0)
    loss.backward()
    assert loss.isfinite() and s.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dist_is_torchdistills(batch, temperature):
    s, t, _ = batch
    theirs = DISTLoss("m", "output", "m", "output", beta=1.0, gamma=2.0, tau=temperature)(io(s), io(t))
    inter, intra = logits.dist_relations(s, t, temperature)
    assert torch.allclose(inter + 2 * intra, theirs, atol=1e-5)


def test_dist_of_dense_predictions_correlates_over_pixels():
    g = torch.Generator().manual_seed(3)
    s, t = torch.randn(2, 5, 3, 4, generator=g), torch.randn(2, 5, 3, 4, generator=g)
    rows = [x.permute(0, 2, 3, 1).reshape(-1, 5) for x in (s, t)]
    for dense, flat in zip(logits.dist_relations(s, t, 2.0), logits.dist_relations(*rows, 2.0), strict=True):
        assert torch.allclose(dense, flat)


def test_kdcl_naive_takes_the_better_members_logits(batch):
    s, t, y = batch
    target = ensembles.ensemble_target([s, t], y, "naive")
    for i in range(len(s)):
        ce_s, ce_t = (-math.log(softmax(x[i].tolist(), 1)[y[i]]) for x in (s, t))
        assert torch.equal(target[i], s[i] if ce_s < ce_t else t[i])


def test_kdcl_min_logit_and_mean_are_literal(batch):
    s, t, y = batch
    low = ensembles.ensemble_target([s, t], y, "min-logit")
    for i in range(len(s)):
        for c in range(5):
            expected = min(float(s[i, c] - s[i, y[i]]), float(t[i, c] - t[i, y[i]]))
            assert float(low[i, c]) == pytest.approx(expected)
    assert torch.equal(ensembles.ensemble_target([s, t], y, "mean"), (s + t) / 2)


def test_kdcl_linear_finds_the_best_convex_combination(batch):
    s, t, y = batch
    grid = [float(torch.nn.functional.cross_entropy(a * s + (1 - a) * t, y)) for a in torch.linspace(0, 1, 1001)]
    found = float(torch.nn.functional.cross_entropy(ensembles.ensemble_target([s, t], y, "linear"), y))
    assert found <= min(grid) + 1e-5


def test_ensemble_targets_are_constants(batch):
    s, t, y = batch
    s = s.clone().requires_grad_()
    for form in ("naive", "linear", "min-logit", "mean"):
        assert not ensembles.ensemble_target([s, t], y, form).requires_grad
