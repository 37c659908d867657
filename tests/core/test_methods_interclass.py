"""AICSD against a literal loop: distributions of classes over positions, their divergences, and weights over time."""

import math

import pytest
import torch

from adm_core.errors import Unsupported
from adm_core.losses import channels
from adm_core.testing.setup import Setup
from tests.core.literal import kl, numbers, softmax
from tests.core.test_methods_relations import agree

B, K = 3, 4
STUDENT, TEACHER = numbers(0, B, K, 3, 4), numbers(1, B, K, 6, 8)


def rows_by_loop(logits, valid):
    """Of one image: every class's softmax over positions, divergences between them, rows of length one."""
    at = [(y, x) for y in range(logits.shape[1]) for x in range(logits.shape[2]) if valid[y, x]]
    exps = [[logits[k, y, x].exp() for y, x in at] for k in range(K)]
    p = [[e / sum(row) for e in row] for row in exps]
    matrix = [[sum(a * (a / b).log() for a, b in zip(p[i], p[j], strict=True)) for j in range(K)] for i in range(K)]
    lengths = [sum(d * d for d in row).sqrt() for row in matrix]
    return [[d / length for d in row] for row, length in zip(matrix, lengths, strict=True)]


@pytest.mark.parametrize("masked", [False, True])
def test_interclass_distance_is_a_loop_over_classes_and_images(masked):
    mask = torch.ones(B, 6, 8, dtype=torch.bool)
    if masked:
        mask[0, 2:, 4:], mask[2] = False, False
    images = range(2 if masked else B)

    def literal(student):
        total = 0.0
        for b in images:
            found = [
                rows_by_loop(maps[b], mask[b, :: 6 // maps.shape[2], :: 8 // maps.shape[3]])
                for maps in (student, TEACHER)
            ]
            total += sum((found[0][i][j] - found[1][i][j]) ** 2 for i in range(K) for j in range(K)) / K**2
        return total / len(images)

    agree(lambda s: channels.interclass_distance(s, TEACHER, mask=mask if masked else None), literal, STUDENT)


def test_interclass_distance_knows_neither_level_nor_order_of_positions():
    """A constant per class leaves each distribution as it is; a permutation of positions all divergences."""
    shifted = STUDENT + numbers(2, 1, K, 1, 1)
    turned = STUDENT.flatten(2)[:, :, torch.randperm(12, generator=torch.Generator().manual_seed(0))].view_as(STUDENT)
    for other in (shifted, turned):
        assert float(channels.interclass_distance(STUDENT, other)) < 1e-25
    assert float(channels.interclass_distance(STUDENT, TEACHER)) > 1e-4


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_labels_and_classes_gain_weight_as_pixels_lose_it(progress):
    bench = Setup("aicsd", "offline", {}, form="pixels")
    batch = bench.batch(0)
    views = bench.distiller.views(batch)[0]
    found = bench.losses(progress=progress)
    own, other = (views[role].prediction.detach() for role in ("student", "teacher"))
    divergence, count = 0.0, 0
    for b in range(len(own)):
        for y in range(8):
            for x in range(8):
                if batch.mask[b, 2 * y, 2 * x]:
                    divergence += kl(softmax(other[b, :, y, x].tolist()), softmax(own[b, :, y, x].tolist()))
                    count += 1
    inter = 2375 * float(channels.interclass_distance(own, other, mask=batch.mask))
    assert found.student_task == progress
    assert float(found.student["inter"].detach()) == pytest.approx(progress * inter, rel=1e-5)
    pixel = (1 - progress) * 10 * divergence / count / own.shape[1]
    assert float(found.student["pixel"].detach()) == pytest.approx(pixel, rel=1e-4, abs=1e-12)


def test_without_adaptation_every_weight_stays():
    bench = Setup("aicsd", "offline", {"aicsd": {"adaptive": False, "pixel": 0.0}}, form="pixels")
    early, late = (bench.losses(progress=progress) for progress in (0.0, 1.0))
    assert early.student_task == late.student_task == 1.0 and set(early.student) == {"inter"}
    assert float(early.student["inter"].detach()) == float(late.student["inter"].detach()) > 0
    assert math.isclose(float(early.log["alpha"]), 1.0)


def test_images_without_positions_are_declined():
    with pytest.raises(Unsupported, match="where they are"):
        Setup("aicsd", "offline", {}, form="images")
