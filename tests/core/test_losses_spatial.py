"""Feature, relation and spatial losses against literal loops and an independent library."""

import math

import pytest
import torch
from torchdistill.losses.mid_level import ATLoss

from adm_core import align
from adm_core.losses import features, relations, spatial


def maps(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).relu()


def test_attention_transfer_is_torchdistills_on_equal_sizes():
    s, t = maps(0, 4, 6, 5, 5), maps(1, 4, 9, 5, 5)
    pair = {"p": {"student": {"path": "m", "io": "output"}, "teacher": {"path": "m", "io": "output"}}}
    theirs = ATLoss(pair)({"m": {"output": s}}, {"m": {"output": t}})
    assert torch.allclose(features.attention_transfer(s, t), theirs)


def test_attention_transfer_pools_the_larger_map():
    s, t = maps(0, 2, 6, 8, 8), maps(1, 2, 9, 4, 4)
    pooled = torch.nn.functional.avg_pool2d(s, 2)
    assert torch.allclose(features.attention_transfer(s, t), features.attention_transfer(pooled, t))


@pytest.mark.parametrize("of", ["mean", "max"])
@pytest.mark.parametrize(("side", "to"), [((8, 8), (4, 4)), ((12, 8), (6, 1)), ((7, 9), (4, 3)), ((8, 8), (1, 1))])
def test_maps_are_pooled_as_torch_does_adaptively_and_to_the_bit(side, to, of):
    """Where cells are alike by another kernel: the adaptive one's gradient on GPUs is not the same every time."""
    f, weights = maps(0, 2, 3, *side).round(decimals=1).requires_grad_(), maps(1, 2, 3, *to)  # rounded, for ties
    adaptive = {"mean": torch.nn.functional.adaptive_avg_pool2d, "max": torch.nn.functional.adaptive_max_pool2d}[of]
    ours, theirs = align.pool_map(f, to, of), adaptive(f, to)
    alike = side != (7, 9) and (to != (1, 1) or of == "max")  # one mean is torch's own special case
    assert ("Adaptive" in type(ours.grad_fn).__name__ or "Mean" in type(ours.grad_fn).__name__) is not alike
    gradients = [torch.autograd.grad((each * weights).sum(), f)[0] for each in (ours, theirs)]
    assert torch.equal(ours, theirs) and torch.equal(*gradients)


def test_torch_lists_adaptive_pooling_alone_as_without_a_deterministic_gradient_on_gpus():
    listed = torch.use_deterministic_algorithms.__doc__ or ""
    assert all(f"torch.nn.Adaptive{kind}Pool2d`" in listed for kind in ("Avg", "Max"))
    assert not any(f"torch.nn.{kind}Pool2d`" in listed for kind in ("Avg", "Max"))


def test_a_map_of_the_right_size_is_not_pooled():
    f = maps(0, 2, 3, 4, 5)
    assert align.pool_map(f, (4, 5)) is f


def test_cosine_map_is_the_cosine_at_each_position():
    a, b = maps(0, 2, 6, 3, 4), maps(1, 2, 6, 3, 4)
    s = spatial.cosine_map(a, b)
    for n in range(2):
        for i in range(3):
            for j in range(4):
                u, v = a[n, :, i, j].tolist(), b[n, :, i, j].tolist()
                dot = sum(x * y for x, y in zip(u, v, strict=True))
                norm = math.sqrt(sum(x * x for x in u) * sum(y * y for y in v))
                assert float(s[n, i, j]) == pytest.approx(dot / norm, rel=1e-5)


def test_softmax_weights_have_mean_one_and_follow_similarity():
    s = torch.tensor([[[0.1, 0.9], [0.5, 0.5]]])
    w = spatial.softmax_weights(s, 0.5)
    exps = [math.exp(v / 0.5) for v in (0.1, 0.9, 0.5, 0.5)]
    assert w.flatten().tolist() == pytest.approx([4 * e / sum(exps) for e in exps])
    assert spatial.softmax_weights(s, 1e6).flatten().tolist() == pytest.approx([1.0] * 4, abs=1e-4)


def test_rank_weights_are_by_order_alone_and_have_mean_one():
    s = torch.tensor([[[0.1, 0.9], [0.5, 0.4]], [[3.0, -1.0], [0.0, 7.0]]])
    w = spatial.rank_weights(s)
    assert w.flatten(1).tolist() == [[0.25, 1.75, 1.25, 0.75], [1.25, 0.25, 0.75, 1.75]]
    assert torch.equal(spatial.rank_weights(s.exp()), w)


def test_rank_weights_count_valid_positions_alone():
    s, mask = torch.tensor([[[0.1, 0.9], [0.5, 0.4]]] * 3), torch.ones(3, 2, 2, dtype=torch.bool)
    mask[0, 0, 1] = mask[1] = mask[2] = False
    mask[2, 1, 0] = True
    w = spatial.rank_weights(s, mask).flatten(1)
    assert w[0].tolist() == pytest.approx([1 / 3, 0, 5 / 3, 1])
    assert w[1].tolist() == [0, 0, 0, 0]
    assert w[2].tolist() == [0, 0, 1, 0]


def test_entropy_is_one_for_uniform_and_zero_for_a_single_position():
    assert float(spatial.relative_entropy(torch.ones(2, 3, 3))) == pytest.approx(1.0)
    single = torch.zeros(1, 2, 2)
    single[0, 0, 0] = 4.0
    assert float(spatial.relative_entropy(single)) == pytest.approx(0.0)


def test_weighted_pool_with_uniform_weights_is_global_average_pooling():
    f = maps(0, 3, 5, 4, 4)
    assert torch.allclose(spatial.weighted_pool(f, torch.ones(3, 4, 4)), f.mean((2, 3)))


def test_attention_similarity_is_one_for_equal_maps_of_any_width():
    f = maps(0, 2, 4, 3, 3)
    wide = torch.cat([f, f], dim=1)
    assert torch.allclose(spatial.attention_similarity(f, wide), torch.ones(2, 3, 3))
    s = spatial.attention_similarity(f, maps(9, 2, 8, 3, 3))
    assert ((s >= 0) & (s <= 1)).all()


def test_masked_mean_counts_valid_positions_only():
    values = torch.arange(8.0).view(1, 2, 4)
    mask = values > 5
    assert float(spatial.masked_mean(values, mask)) == 6.5
    assert float(spatial.masked_mean(values, torch.zeros_like(mask))) == 0.0


def test_switch_distances_are_literal_batch_means():
    g = torch.Generator().manual_seed(4)
    s, t, y = torch.randn(3, 4, generator=g), torch.randn(3, 4, generator=g), torch.tensor([1, 0, 3])
    gap, error_s, error_t = (float(v) for v in relations.switch_distances(s, t, y))
    p, q = s.softmax(1).tolist(), t.softmax(1).tolist()
    truth = [[float(c == label) for c in range(4)] for label in y.tolist()]

    def distance(a, b):
        return sum(abs(u - v) for x, z in zip(a, b, strict=True) for u, v in zip(x, z, strict=True)) / 3

    assert (gap, error_s, error_t) == pytest.approx((distance(p, q), distance(p, truth), distance(q, truth)), rel=1e-5)


def test_channel_pooling_averages_neighbours():
    f = maps(0, 2, 6, 3, 3)
    pooled = align.pool_channels(f, 3)
    assert torch.allclose(pooled[:, 0], f[:, :2].mean(1)) and pooled.shape == (2, 3, 3, 3)


def test_class_response_averaged_over_positions_is_the_logits():
    head, f = torch.nn.Linear(6, 10), maps(0, 2, 6, 3, 3)
    assert torch.allclose(align.class_response(f, head).mean((2, 3)), head(f.mean((2, 3))), atol=1e-6)


@pytest.mark.parametrize("sides", [((8, 8), (4, 4)), ((4, 4), (8, 8)), ((5, 5), (5, 5)), ((7, 7), (4, 4))])
def test_hint_regressor_reaches_the_teachers_shape(sides):
    (hs, ws), (ht, wt) = sides
    regressor = align.make_hint_regressor((2, 6, hs, ws), (2, 9, ht, wt))
    assert regressor(maps(0, 2, 6, hs, ws)).shape == (2, 9, ht, wt)
