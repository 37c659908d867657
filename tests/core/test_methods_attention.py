"""AttnFD against literal loops: attention with and without parameters, and directions over a whole batch."""

import math

import pytest
import torch

from adm_core.attention import ConvolutionalAttention, refined
from adm_core.errors import Unsupported
from adm_core.losses import features
from adm_core.testing.promises import CHECKS
from adm_core.testing.setup import Setup
from tests.core.literal import numbers
from tests.core.test_methods_relations import agree

B, C, H, W = 2, 6, 4, 5
STUDENT, TEACHER, WEIGHTS = numbers(0, B, C, H, W), numbers(1, B, C, H, W), numbers(3, B, C, H, W)


def sigmoid(x):
    return 1 / (1 + (-x).exp())


def extremes(values):
    """Largest and mean of a list of scalars."""
    return max(values, key=lambda value: float(value.detach())), sum(values) / len(values)


def by_channels(x, score):
    """One image, whose channels are weighed by what ``score`` makes of their maxima and means."""
    pairs = [extremes([x[c, i, j] for i in range(H) for j in range(W)]) for c in range(C)]
    return torch.stack([x[c] * sigmoid(s) for c, s in enumerate(score([m for m, _ in pairs], [m for _, m in pairs]))])


def compressed(x):
    """Largest and mean over channels at each position."""
    return [[extremes([x[c, i, j] for c in range(C)]) for j in range(W)] for i in range(H)]


def refined_by_loop(x):
    each = []
    for image in x:
        image = by_channels(image, lambda top, mean: [a + b for a, b in zip(top, mean, strict=True)])
        weights = torch.stack([torch.stack([sigmoid(a + b) for a, b in row]) for row in compressed(image)])
        each.append(image * weights)
    return torch.stack(each)


def attended_by_loop(module, x):
    """The perceptron unit by unit, the convolution position by position, batch normalisation over all of these."""
    first, last, (convolution, norm) = module.channels[0], module.channels[2], module.positions

    def perceptron(values):
        hidden = [
            (sum(w * v for w, v in zip(row, values, strict=True)) + b).clamp_min(0)
            for row, b in zip(first.weight, first.bias, strict=True)
        ]
        return [
            sum(w * h for w, h in zip(row, hidden, strict=True)) + b
            for row, b in zip(last.weight, last.bias, strict=True)
        ]

    weighed = [
        by_channels(image, lambda top, mean: [a + b for a, b in zip(perceptron(top), perceptron(mean), strict=True)])
        for image in x
    ]
    scores = []
    for image in weighed:
        seen = compressed(image)
        for i in range(H):
            for j in range(W):
                near = [(y, z) for y in range(i - 3, i + 4) for z in range(j - 3, j + 4) if 0 <= y < H and 0 <= z < W]
                score = 0.0
                for y, z in near:
                    for channel in range(2):
                        score = score + convolution.weight[0, channel, y - i + 3, z - j + 3] * seen[y][z][channel]
                scores.append(score)
    mean = sum(scores) / len(scores)
    spread = (sum((s - mean) ** 2 for s in scores) / len(scores) + norm.eps).sqrt()
    weights = [sigmoid((s - mean) / spread * norm.weight[0] + norm.bias[0]) for s in scores]
    return torch.stack(weighed) * torch.stack(weights).view(B, 1, H, W)


def summed(attention):
    return lambda x: (attention(x) * WEIGHTS).sum()


def test_attention_without_parameters_is_a_loop_over_channels_and_positions():
    agree(summed(refined), summed(refined_by_loop), STUDENT)


def test_attention_that_learns_is_a_loop_over_units_and_windows():
    torch.manual_seed(0)
    module = ConvolutionalAttention(C).double()
    with torch.no_grad():
        module.positions[1].weight.fill_(1.3)
        module.positions[1].bias.fill_(-0.4)
    agree(summed(module), summed(lambda x: attended_by_loop(module, x)), STUDENT)


@pytest.mark.parametrize("masked", [False, True])
def test_direction_distance_is_a_loop_over_the_batch(masked):
    mask = torch.rand(B, H, W, generator=torch.Generator().manual_seed(4)) < 0.6
    at = [(b, c, i, j) for b in range(B) for c in range(C) for i in range(H) for j in range(W)]
    at = [place for place in at if not masked or mask[place[0], place[2], place[3]]]

    def literal(student):
        ours = sum(student[p] ** 2 for p in at).sqrt()
        theirs = math.sqrt(sum(float(TEACHER[p]) ** 2 for p in at))
        return sum((student[p] / ours - TEACHER[p] / theirs) ** 2 for p in at) / B

    agree(lambda s: features.direction_distance(s, TEACHER, mask if masked else None), literal, STUDENT)


def test_direction_distance_knows_no_scale_and_is_largest_for_opposites():
    assert float(features.direction_distance(STUDENT, 3 * STUDENT)) < 1e-25
    assert float(features.direction_distance(STUDENT, -STUDENT)) == pytest.approx(4 / B)


def test_attnfd_sums_its_levels_on_pooled_maps():
    bench = Setup("attnfd", "offline", {"attnfd": {"taps": ["stage1", "stage3"], "weight": 3.0}}, form="images")
    views = bench.distiller.views(bench.batch(0))[0]
    expected = 0.0
    for tap, (attention, projector) in zip(("stage1", "stage3"), bench.distiller.parts["refining"], strict=True):
        own = projector(attention(views["student"].features[tap]))
        expected += 3 * float(features.direction_distance(own, refined(views["teacher"].features[tap])).detach())
    assert float(bench.losses().student["refined"].detach()) == pytest.approx(expected, rel=1e-5)


def test_attnfd_runs_on_maps_of_images_and_declines_what_has_no_positions():
    setup = Setup("attnfd", "offline", {"attnfd": {"taps": ["all-stages"]}}, form="images")
    assert [detail for check in CHECKS.values() if (detail := check(setup.twin()))] == []
    with pytest.raises(Unsupported, match="penultimate is not a feature map"):
        Setup("attnfd", "offline", {}, form="images")
