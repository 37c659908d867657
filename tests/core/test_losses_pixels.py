"""Losses on dense predictions and feature maps against slow literal loops of the published formulas."""

import math

import pytest
import torch
from torchdistill.losses.mid_level import DISTLoss, KDLoss

from adm_core.losses import adversarial, channels, features, logits, prototypes, relations

HEIGHT, WIDTH = 5, 4
"""Odd, so that the last window of a pooling is smaller than the others."""


def maps(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def valid_positions(images=3):
    """A third is void; in the second image, everything."""
    valid = torch.rand(images, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(9)) > 0.33
    valid[1] = False
    return valid


@pytest.fixture
def case():
    """Features of the student (6 wide) and the teacher (4 wide), labels, and a mask at twice the features' size."""
    labels = torch.randint(3, (3, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(2))
    fine = [x.repeat_interleave(2, 1).repeat_interleave(2, 2) for x in (labels, valid_positions())]
    return maps(0, 3, 6, HEIGHT, WIDTH), maps(1, 3, 4, HEIGHT, WIDTH), *fine


def io(tensor):
    return {"m": {"output": tensor}}


def positions(valid):
    return [(i, j) for i in range(HEIGHT) for j in range(WIDTH) if valid[i, j]]


def windows(valid, side):
    """Of every window that has a valid position, those positions."""
    for top in range(0, HEIGHT, side):
        for left in range(0, WIDTH, side):
            inside = [(i, j) for i, j in positions(valid) if top <= i < top + side and left <= j < left + side]
            if inside:
                yield inside


def normed(vector):
    length = math.sqrt(sum(v * v for v in vector))
    return [v / length if length else 0.0 for v in vector]


def dot(u, v):
    return sum(a * b for a, b in zip(u, v, strict=True))


def cosine(u, v):
    return dot(normed(u), normed(v))


def softmax(values):
    exps = [math.exp(v) for v in values]
    return [e / sum(exps) for e in exps]


def mean(values):
    return sum(values) / len(values)


@pytest.mark.parametrize("masked", [True, False])
def test_pairwise_similarity_is_the_literal_double_loop(case, masked):
    s, t, _, mask = case
    valid = valid_positions() if masked else torch.ones(3, HEIGHT, WIDTH, dtype=torch.bool)
    errors = []
    for n in range(3):
        inside = list(windows(valid[n], 2))
        pooled = [
            [[max(float(f[n, c, i, j]) for i, j in w) for c in range(f.shape[1])] for w in inside] for f in (s, t)
        ]
        count = len(pooled[0])
        for p in range(count):
            for q in range(count):
                errors.append((cosine(pooled[0][p], pooled[0][q]) - cosine(pooled[1][p], pooled[1][q])) ** 2)
    ours = relations.pairwise_similarity(s, t, mask if masked else None)
    assert float(ours) == pytest.approx(mean(errors), rel=1e-5)


def test_pairwise_similarity_grows_its_windows_until_the_positions_fit():
    s, t = maps(0, 2, 5, 8, 8), maps(1, 2, 5, 8, 8)
    bounded = relations.pairwise_similarity(s, t, max_positions=4)
    assert torch.equal(bounded, relations.pairwise_similarity(s, t, kernel=4))
    assert not torch.allclose(bounded, relations.pairwise_similarity(s, t))
    assert torch.equal(relations.pairwise_similarity(s, t, max_positions=16), relations.pairwise_similarity(s, t))


@pytest.mark.parametrize("masked", [True, False])
def test_channel_divergence_is_the_literal_formula(masked):
    s, t = maps(0, 3, 6, HEIGHT, WIDTH), maps(1, 3, 6, HEIGHT, WIDTH) * 3
    valid = valid_positions() if masked else torch.ones(3, HEIGHT, WIDTH, dtype=torch.bool)
    total, images = 0.0, [n for n in range(3) if valid[n].any()]
    for n in images:
        for c in range(6):
            q, p = (softmax([float(x[n, c, i, j]) / 4 for i, j in positions(valid[n])]) for x in (s, t))
            total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    ours = channels.channel_divergence(s, t, 4.0, valid if masked else None)
    assert float(ours) == pytest.approx(16 * total / (len(images) * 6), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_channel_divergence_is_torchdistills_soft_loss_over_positions(temperature):
    """Its distillation loss, given a row per image and channel whose "classes" are the positions."""
    s, t, valid = maps(0, 1, 6, HEIGHT, WIDTH), maps(1, 1, 6, HEIGHT, WIDTH), valid_positions()[:1]
    theirs = KDLoss("m", "output", "m", "output", temperature=temperature, beta=1.0)
    for mask, pick in ((None, valid[0] | True), (valid, valid[0])):
        expected = temperature**2 * theirs(io(s[0][:, pick]), io(t[0][:, pick]))
        assert torch.allclose(channels.channel_divergence(s, t, temperature, mask), expected, atol=1e-6)


def test_dist_of_dense_predictions_is_torchdistills_on_the_valid_pixels():
    s, t, valid = maps(0, 3, 7, HEIGHT, WIDTH), maps(1, 3, 7, HEIGHT, WIDTH), valid_positions()
    rows = [x.permute(0, 2, 3, 1)[valid] for x in (s, t)]
    theirs = DISTLoss("m", "output", "m", "output", beta=1.0, gamma=2.0, tau=4.0)(*(io(x) for x in rows))
    inter, intra = logits.dist_relations(s, t, 4.0, valid)
    assert torch.allclose(inter + 2 * intra, theirs, atol=1e-5)


@pytest.mark.parametrize("masked", [True, False])
def test_intra_class_variation_is_the_literal_formula(case, masked):
    s, t, labels, mask = case
    valid = valid_positions() if masked else torch.ones(3, HEIGHT, WIDTH, dtype=torch.bool)
    coarse, errors = labels[:, ::2, ::2], []
    for n in range(3):
        for i, j in positions(valid[n]):
            peers = [(a, b) for a, b in positions(valid[n]) if coarse[n, a, b] == coarse[n, i, j]]
            similarity = []
            for f in (s, t):
                prototype = [mean([float(f[n, c, a, b]) for a, b in peers]) for c in range(f.shape[1])]
                similarity.append(cosine(f[n, :, i, j].tolist(), prototype))
            errors.append((similarity[0] - similarity[1]) ** 2)
    ours = prototypes.intra_class_variation(s, t, labels, 3, mask if masked else None)
    assert float(ours) == pytest.approx(mean(errors), rel=1e-5)


def test_residual_attention_is_the_literal_formula():
    """Three levels, the last of half the size: all are averaged down to it."""
    valid = torch.tensor([[[1, 0, 1], [1, 1, 0]], [[0, 0, 0], [0, 0, 0]]]).bool()
    student = [maps(k, 2, 3 + k, *size) for k, size in enumerate([(4, 6), (4, 6), (2, 3)])]
    teacher = [maps(9 + k, 2, 5 + k, *size) for k, size in enumerate([(4, 6), (2, 3), (2, 3)])]

    def attention(f, n):
        step = f.shape[2] // 2
        energy = []
        for i in range(2):
            for j in range(3):
                block = f[n, :, step * i : step * (i + 1), step * j : step * (j + 1)]
                pooled = [mean(channel.flatten().tolist()) for channel in block]
                energy.append(mean([v * v for v in pooled]) if valid[n, i, j] else 0.0)
        return normed(energy)

    errors = []
    for n in range(2):
        for low, high in ((0, 1), (0, 2), (1, 2)):
            r_s, r_t = (
                normed([b - a for a, b in zip(attention(f[low], n), attention(f[high], n), strict=True)])
                for f in (student, teacher)
            )
            errors.append([(a - b) ** 2 for a, b in zip(r_s, r_t, strict=True)])
    expected = sum(map(sum, errors)) / 3 / int(valid.sum())
    assert float(features.residual_attention(student, teacher, valid)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("masked", [True, False])
def test_category_similarity_is_the_literal_formula(masked):
    s, t = maps(0, 3, 4, HEIGHT, WIDTH) * 5, maps(1, 3, 4, HEIGHT, WIDTH) * 5
    valid = valid_positions() if masked else torch.ones(3, HEIGHT, WIDTH, dtype=torch.bool)
    errors = []
    for n in (n for n in range(3) if valid[n].any()):
        p_s, p_t = (
            [softmax([mean([float(x[n, c, i, j]) for i, j in w]) / 4 for w in windows(valid[n], 2)]) for c in range(4)]
            for x in (s, t)
        )
        errors += [(dot(p_s[a], p_s[b]) - dot(p_t[a], p_t[b])) ** 2 for a in range(4) for b in range(4)]
    ours = channels.category_similarity(s, t, 4.0, valid if masked else None)
    assert float(ours) == pytest.approx(mean(errors), rel=1e-5)


def test_squared_distance_sums_over_an_examples_valid_positions():
    s, t, valid = maps(0, 3, 4, HEIGHT, WIDTH), maps(1, 3, 4, HEIGHT, WIDTH), valid_positions()
    expected = sum(
        float((s[n, c, i, j] - t[n, c, i, j]) ** 2) for n in range(3) for c in range(4) for i, j in positions(valid[n])
    )
    assert float(features.squared_distance(s, t, valid)) == pytest.approx(expected / 3, rel=1e-5)
    assert float(features.squared_distance(s, t)) == pytest.approx(float((s - t).pow(2).sum() / 3), rel=1e-5)


@pytest.mark.parametrize(("over", "shape"), [("positions", (40, 1, 20, 20)), ("channels", (40, 30, 1, 1))])
def test_random_keep_hides_the_share_it_is_told(over, shape):
    f = torch.ones(40, 30, 20, 20)
    keep = features.random_keep(f, 0.75, over, torch.Generator().manual_seed(0))
    assert keep.shape == shape and set(keep.unique().tolist()) == {0.0, 1.0}
    assert float(keep.mean()) == pytest.approx(0.25, abs=0.03)
    assert torch.equal(keep, features.random_keep(f, 0.75, over, torch.Generator().manual_seed(0)))
    assert bool(features.random_keep(f, 0.0, over, torch.Generator()).all())


def test_hinge_losses_worked_by_hand():
    on_student, on_teacher = torch.tensor([[[-3.0, 0.5]], [[9.0, 9.0]]]), torch.tensor([[[2.0, 0.25]], [[-9.0, -9.0]]])
    first = torch.tensor([True, False])
    # (0 + 0.75) / 2 for the teacher, (0 + 1.5) / 2 for the student
    assert float(adversarial.critic_hinge(on_student, on_teacher, first)) == pytest.approx(0.375 + 0.75)
    assert float(adversarial.student_hinge(on_student, first)) == pytest.approx(1.25)
    assert float(adversarial.student_hinge(on_student)) == pytest.approx(-3.875)


LOSSES = {
    "pairwise": lambda s, t, y, m: relations.pairwise_similarity(s, t, m),
    "channels": lambda s, t, y, m: channels.channel_divergence(s, t, 4.0, m),
    "variation": lambda s, t, y, m: prototypes.intra_class_variation(s, t, y, 3, m),
    "attention": lambda s, t, y, m: features.residual_attention([s[:, :3], s], [t[:, :3], t], m),
    "categories": lambda s, t, y, m: channels.category_similarity(s, t, 4.0, m),
    "squares": lambda s, t, y, m: features.squared_distance(s, t, m),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@every_loss
def test_a_perfect_match_costs_nothing(loss, case):
    s, _, labels, mask = case
    assert float(loss(s, s.clone(), labels, mask)) == 0.0
    assert float(loss(s, s.clone(), labels, None)) == 0.0


@every_loss
def test_void_positions_count_for_nothing(loss, case):
    s, _, labels, mask = case
    t, void = maps(5, *s.shape), ~mask[:, ::2, ::2]
    other_s, other_t = (torch.where(void[:, None], maps(6 + k, *s.shape) * 100, x) for k, x in enumerate((s, t)))
    other_labels = torch.where(mask, labels, (labels + 1) % 3)
    assert torch.equal(loss(s, t, labels, mask), loss(other_s, other_t, other_labels, mask))
    s.requires_grad_()
    loss(s, t, labels, mask).backward()
    assert not (s.grad * void[:, None]).any() and s.grad.any()


@every_loss
def test_nothing_valid_costs_nothing(loss, case):
    s, _, labels, mask = case
    s.requires_grad_()
    total = loss(s, maps(5, *s.shape), labels, torch.zeros_like(mask))
    total.backward()
    assert float(total.detach()) == 0.0 and not s.grad.any()


@every_loss
def test_gradients_are_those_of_finite_differences(loss, case):
    s, _, labels, mask = case
    s, t = s.double()[:2, :3, :3].requires_grad_(), maps(5, *s.shape).double()[:2, :3, :3]
    labels, mask = labels[:2, :6], mask[:2, :6]
    assert torch.autograd.gradcheck(lambda x: loss(x, t, labels, mask), (s,), rtol=1e-3, atol=1e-6)


@every_loss
def test_features_that_are_all_zero_give_finite_gradients(loss, case):
    s, _, labels, mask = case
    dead = torch.zeros_like(s).requires_grad_()
    total = loss(dead, maps(5, *s.shape), labels, mask)
    total.backward()
    assert total.isfinite() and float(dead.grad.abs().max()) < 1e3
