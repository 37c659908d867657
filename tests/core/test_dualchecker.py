"""DualChecker: retrieval, moved images, borderline examples and the terms literally; its controls; a resumed run."""

import math

import pytest
import torch

from adm_core import registry
from adm_core.batch import Batch
from adm_core.losses import teachers
from adm_core.memory import remembered
from adm_core.method import Facts, Step, View
from adm_core.testing.setup import Setup
from tests.core.literal import dot, kl, numbers, softmax
from tests.core.resuming import whole_and_resumed

B, K, C, N = 8, 4, 5, 12
LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 1, -1, 2])
INDEX = torch.tensor([3, 11, 0, 7, 5, 1, 9, 2])
TARGET = LABELS[INDEX]


def sphere(seed, count):
    rows = numbers(seed, count, C)
    return rows / rows.pow(2).sum(1, keepdim=True).sqrt()


def literal_retrieval(query, own, vectors, k):
    others = [i for i in range(N) if i != own and LABELS[i] >= 0]
    near = sorted(others, key=lambda i: -dot(query, vectors[i]))[:k]
    found = [0.0] * K
    for i, weight in zip(near, softmax([dot(query, vectors[i]) for i in near], 0.07), strict=True):
        found[int(LABELS[i])] += weight
    return found


def test_retrieval_is_the_literal_one():
    vectors, queries = sphere(0, N), sphere(1, B)
    found = teachers.retrieved(queries, INDEX, 3, K, vectors, LABELS)
    for row, query, own in zip(found.tolist(), queries.tolist(), INDEX.tolist(), strict=True):
        assert row == pytest.approx(literal_retrieval(query, own, vectors.tolist(), 3), abs=1e-9)


def test_the_training_set_is_remembered_by_position_whatever_the_order():
    vectors, order = numbers(0, N, C), torch.randperm(N, generator=torch.Generator().manual_seed(1))[:-2]
    found = remembered(((i, vectors[i], LABELS[i]) for i in order.split(4)), N)
    torch.testing.assert_close(found["vectors"][order], vectors[order] / vectors[order].norm(dim=1, keepdim=True))
    assert torch.equal(found["labels"][order], LABELS[order])
    missed = [i for i in range(N) if i not in order]
    assert found["labels"][missed].tolist() == [-1, -1] and not bool(found["vectors"][missed].any())


def test_moved_images_repeat_their_edge():
    image = torch.arange(12.0).view(1, 1, 3, 4)
    up, down, left, right = (moved[0, 0] for moved in teachers.moved_by_one(image))
    rows, columns = image[0, 0], image[0, 0].T
    assert torch.equal(up, rows[[1, 2, 2]]) and torch.equal(down, rows[[0, 0, 1]])
    assert torch.equal(left.T, columns[[1, 2, 3, 3]]) and torch.equal(right.T, columns[[0, 0, 1, 2]])


def test_borderline_is_wrong_and_least_sure():
    logits = 3 * numbers(0, 20, K)
    target = torch.arange(20) % K
    p = [softmax(row) for row in logits.tolist()]
    wrong = [i for i in range(20) if p[i].index(max(p[i])) != target[i]]
    expected = sorted(sorted(wrong, key=lambda i: max(p[i]))[:3])
    assert teachers.borderline(logits, target, 3).nonzero().flatten().tolist() == expected
    assert teachers.borderline(logits, target, 20).nonzero().flatten().tolist() == wrong
    assert not bool(teachers.borderline(5 * torch.eye(K), torch.arange(K), 2).any())


class Asked(torch.nn.Module):
    """A teacher whose logits are linear in the corner pixel, which moves bring others to."""

    def forward(self, images):
        return images[:, 0, 0, 0, None] * torch.tensor([1.0, -1.0, 0.5, 2.0], dtype=images.dtype)


@pytest.mark.parametrize(
    "settings", [{}, {"interactive": False}, {"views": 0}, {"neighbours": 0}, {"views": 0, "neighbours": 0}]
)
def test_terms_and_gradients_are_the_literal_ones(settings):
    given = {"weight": 2.0, "least": 0.6, "views": 2, "neighbours": 3, "interactive": True} | settings
    method = registry.create("dualchecker", {"dualchecker": given})
    shapes = {"penultimate": (B, C), "prediction": (B, K)}
    parts = {name: part.double() for name, part in method.build(shapes, shapes, Facts(N, K, LABELS, 10, B)).items()}
    method.take(parts | {"asked": Asked()})
    z_s, z_t, f_t = 2 * numbers(0, B, K), 2 * numbers(1, B, K), numbers(2, B, C)
    memory, images = sphere(3, N), 2 * numbers(4, B, 1, 3, 3)
    method.know({"vectors": memory, "labels": LABELS})
    weights, residual = [1.0] * B, torch.zeros(K, C, dtype=torch.float64)
    if "added" in parts:
        residual = parts["added"].weight.data = numbers(5, K, C) / 4
        parts["weights"].values[INDEX[:3]] = 2.0
        weights = [2.0] * 3 + [1.0] * (B - 3)
    z_s.requires_grad_()
    views = [View(z, "class_logits", {"penultimate": f_t}, torch.zeros(B)) for z in (z_s, z_t)]
    found = method.losses(*views, Step(Batch(images, images, TARGET, INDEX), 0.5, torch.Generator()))

    z_a, total, at_student, counted = z_t + f_t @ residual.T, 0.0, [], 0
    for i in range(B):
        q, p = softmax(z_a[i].tolist()), softmax(z_s[i].tolist())
        if max(q) <= 0.6:
            corner = images[i, 0]
            # Moved up, the pixel below stands in the corner; moved down, the corner itself is repeated.
            asked = [softmax(Asked()(torch.full((1, 1, 1, 1), float(v)).double())[0].tolist()) for v in (
                corner[1, 0], corner[0, 0])]  # fmt: skip
            answers = [[sum(each) / 2 for each in zip(*asked, strict=True)]] if given["views"] else []
            if given["neighbours"]:
                query = (f_t[i] / f_t[i].norm()).tolist()
                answers.append(literal_retrieval(query, int(INDEX[i]), memory.tolist(), 3))
            q = [sum(each) / len(answers) for each in zip(*answers, strict=True)] if answers else q
        counts = max(q) > 0.6
        counted += counts
        total += counts * weights[i] * kl([a + 1e-300 for a in q], p)
        at_student.append([2 * counts * weights[i] * (b - a) / B for a, b in zip(q, p, strict=True)])
    assert 0 < counted < B + (not given["views"]) and float(found.log["counted"]) == pytest.approx(counted / B)
    assert float(found.student["teacher"].detach()) == pytest.approx(2 * total / B, rel=1e-6)
    (gradient,) = torch.autograd.grad(found.student["teacher"], z_s)
    torch.testing.assert_close(gradient, torch.tensor(at_student).double(), rtol=1e-6, atol=1e-6)

    if not given["interactive"]:
        assert not found.parts and not parts
        return
    p = [softmax(row) for row in z_s.tolist()]
    wrong = [i for i in range(B) if p[i].index(max(p[i])) != TARGET[i]]
    back = min(wrong, key=lambda i: max(p[i]))
    expected = -math.log(softmax(z_a[back].tolist())[int(TARGET[back])])
    assert float(found.parts["borderline"].detach()) == pytest.approx(expected, rel=1e-6)
    error = torch.tensor(softmax(z_a[back].tolist())).double()
    error[TARGET[back]] -= 1
    (gradient,) = torch.autograd.grad(found.parts["borderline"], parts["added"].weight)
    torch.testing.assert_close(gradient, error[:, None] * f_t[back], rtol=1e-6, atol=1e-6)
    expected = [2.0 if i == INDEX[back] else 1.0 for i in range(N)]
    assert parts["weights"].values.tolist() == expected


def test_a_teacher_that_is_sure_and_never_corrected_is_kd_at_temperature_one():
    own = Setup("dualchecker", "offline", {"dualchecker": {"least": 0.0, "interactive": False}})
    kd = Setup("kd", "offline", {"kd": {"weight": 1.0, "task_weight": 1.0, "temperature": 1.0}})
    assert [own.step(seed) for seed in range(3)] == pytest.approx([kd.step(seed) for seed in range(3)], rel=1e-5)


def test_a_run_resumes_with_its_weights_and_its_matrix(tmp_path, monkeypatch):
    settings = {"dualchecker": {"least": 0.3}}
    run, trained = whole_and_resumed(tmp_path, monkeypatch, "dualchecker", "offline", settings, epochs=8)
    assert trained.curves["validation.student.top1"][-1] > 60
    assert set(run.distiller.parts["weights"].values.tolist()) <= {1.0, 2.0}
    assert bool(run.distiller.parts["added"].weight.any())
