"""WKD-L: entropic transport against linear programming, class interrelations against a literal CKA, and trained."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from adm_core import registry
from adm_core.batch import Batch
from adm_core.errors import AdmError
from adm_core.losses import logits, transport
from adm_core.method import View
from adm_core.testing.networks import CLASSES, tiny_facts
from adm_core.testing.setup import Setup
from tests.core.resuming import recipe, whole_and_resumed
from tests.core.toy import trainer

K = 6


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cost_matrix(scale=0.3):
    points = numbers(K, 2, seed=9)
    distance = torch.cdist(points, points)
    return scale * distance / distance.max()


def exact_cost(a, b, cost):
    """The least cost of moving a to b, by linear programming."""
    constraints = np.zeros((2 * len(a), len(a) ** 2))
    for i in range(len(a)):
        constraints[i, i * len(a) : (i + 1) * len(a)] = 1  # what leaves i
        constraints[len(a) + i, i :: len(a)] = 1  # what arrives at i
    return linprog(cost.flatten().numpy(), A_eq=constraints, b_eq=torch.cat([a, b]).numpy()).fun


def test_small_entropy_and_many_iterations_tend_to_the_exact_transport():
    log_a, log_b, cost = numbers(5, K, seed=1).log_softmax(1), numbers(5, K, seed=2).log_softmax(1), cost_matrix()
    expected = [exact_cost(a.exp(), b.exp(), cost) for a, b in zip(log_a, log_b, strict=True)]
    found = transport.sinkhorn_cost(log_a, log_b, cost, 0.004, 3000)
    assert found.tolist() == pytest.approx(expected, abs=1e-3) and min(expected) > 0.02
    rough = transport.sinkhorn_cost(log_a, log_b, cost, 0.05, 3000)
    assert all(r > e for r, e in zip(rough.tolist(), expected, strict=True))  # entropy spreads the plan


def test_ten_iterations_are_the_literal_ones():
    """The scalings of the kernel, one number after the other; the first marginal is fitted last."""
    a, b, cost = numbers(K, seed=1).softmax(0), numbers(K, seed=2).softmax(0), cost_matrix()
    kernel = [[math.exp(-float(cost[i, j]) / 0.05) for j in range(K)] for i in range(K)]
    u = [1.0] * K
    for _ in range(10):
        v = [float(b[j]) / sum(kernel[i][j] * u[i] for i in range(K)) for j in range(K)]
        u = [float(a[i]) / sum(kernel[i][j] * v[j] for j in range(K)) for i in range(K)]
    expected = sum(u[i] * kernel[i][j] * v[j] * float(cost[i, j]) for i in range(K) for j in range(K))
    found = transport.sinkhorn_cost(a.log()[None], b.log()[None], cost, 0.05, 10)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_with_every_class_equally_far_it_tends_to_total_variation():
    log_a, log_b = numbers(4, K, seed=3).log_softmax(1), numbers(4, K, seed=4).log_softmax(1)
    found = transport.sinkhorn_cost(log_a, log_b, 1 - torch.eye(K, dtype=torch.float64), 0.0125, 2000)
    torch.testing.assert_close(found, (log_a.exp() - log_b.exp()).abs().sum(1) / 2, rtol=1e-3, atol=1e-3)


def test_its_gradient_is_that_of_finite_differences():
    log_b, cost = numbers(2, K, seed=2).log_softmax(1), cost_matrix()
    given = numbers(2, K, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: transport.sinkhorn_cost(z.log_softmax(1), log_b, cost, 0.05, 10), given)


def test_the_target_takes_no_part():
    """The loss of K classes is that of the K - 1 others alone, whatever the target's logits are."""
    student, teacher, cost = numbers(3, K, seed=5), numbers(3, K, seed=6), cost_matrix()
    target = torch.tensor([0, 2, K - 1])
    found = transport.transport_loss(student, teacher, target, cost, 2.0, 0.05, 10)
    each = []
    for row, y in enumerate(target.tolist()):
        others = [k for k in range(K) if k != y]
        a, b = ((z[row, others] / 2.0).log_softmax(0)[None] for z in (student, teacher))
        each.append(float(transport.sinkhorn_cost(a, b, cost[others][:, others], 0.05, 10)))
    assert float(found) == pytest.approx(sum(each) / 3, rel=1e-9)
    louder = student.scatter_add(1, target[:, None], torch.full((3, 1), 9.0, dtype=torch.float64))
    assert float(transport.transport_loss(louder, teacher, target, cost, 2.0, 0.05, 10)) == pytest.approx(float(found))


def test_pixels_are_examples_of_their_own_and_void_ones_none():
    cost, target = cost_matrix(), torch.randint(K, (2, 3, 3), generator=torch.Generator().manual_seed(0))
    student, teacher = numbers(2, K, 3, 3, seed=5), numbers(2, K, 3, 3, seed=6)
    mask = numbers(2, 3, 3, seed=7) > -0.5
    rows = (student.movedim(1, -1)[mask], teacher.movedim(1, -1)[mask], target[mask])
    for loss, rest in ((transport.transport_loss, (cost, 2.0, 0.05, 10)), (logits.target_cross_entropy, ())):
        assert float(loss(student, teacher, target, *rest, mask)) == pytest.approx(float(loss(*rows, *rest)))


def test_the_targets_part_is_worked_by_hand():
    student, teacher = torch.tensor([[0.2, 0.8], [0.5, 0.5]]).log(), torch.tensor([[0.9, 0.1], [0.3, 0.7]]).log()
    expected = -(0.9 * math.log(0.2) + 0.7 * math.log(0.5)) / 2
    assert float(logits.target_cross_entropy(student, teacher, torch.tensor([0, 1]))) == pytest.approx(expected)


def cka(x, y):
    """Linear CKA of two lists of vectors by their centred Gram matrices (Kornblith et al., arXiv:1905.00414)."""

    def gram(rows):
        n = len(rows)
        k = [[sum(p * q for p, q in zip(r, s, strict=True)) for s in rows] for r in rows]
        row, every = [sum(r) / n for r in k], sum(map(sum, k)) / n**2
        return [[k[i][j] - row[i] - row[j] + every for j in range(n)] for i in range(n)]

    def dot(a, b):
        return sum(p * q for r, s in zip(a, b, strict=True) for p, q in zip(r, s, strict=True))

    a, b = gram(x), gram(y)
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def test_interrelations_are_the_cka_of_the_first_vectors_of_each_class():
    """Four classes, in batches: one rare, one missing; vectors beyond the fifth of a class do not count."""
    found, kept = transport.ClassSamples(4, 5), {0: [], 1: [], 2: []}
    labels = [[0, 1, 1, 0, 2, 0, 1], [1, 2, 0, 1, 1, 2, 0, 0, 1], [0, 2, 0, 1]]
    for number, batch in enumerate(labels):
        rows = numbers(len(batch), 3, seed=number)
        found.add(rows, torch.tensor(batch), torch.ones(len(batch), dtype=torch.bool))
        for row, label in zip(rows.tolist(), batch, strict=True):
            kept[label].append(row)
    least = min(min(map(len, kept.values())), 5)
    assert least == 4
    matrix = found.interrelations()
    for i in range(3):
        for j in range(3):
            assert float(matrix[i, j]) == pytest.approx(cka(kept[i][:least], kept[j][:least]))
    assert matrix[3].tolist() == [0, 0, 0, 1]
    torch.testing.assert_close(matrix, matrix.T)


def test_the_vector_of_a_class_in_an_image_is_the_mean_over_its_valid_pixels():
    features, labels = numbers(2, 3, 2, 2), torch.tensor([[[0, 0], [1, 1]], [[2, 2], [2, 0]]])
    mask = torch.tensor([[[True, True], [True, False]], [[True, True], [True, False]]])
    rows, classes, there = transport.class_means(features, labels, mask, 3)
    found = {(row // 3, int(c)): rows[row] for row, c in enumerate(classes) if there[row]}
    expected = {
        (0, 0): features[0, :, 0].mean(1), (0, 1): features[0, :, 1, 0],
        (1, 2): (features[1, :, 0, 0] + features[1, :, 0, 1] + features[1, :, 1, 0]) / 3,
    }  # fmt: skip
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[key], expected[key]) for key in found)


# --- the method ---


def test_the_method_looks_at_the_teacher_once_and_keeps_what_it_found():
    method = registry.create("wkd-l")
    batches = [(numbers(30, 4, seed=s).float(), torch.arange(30) % CLASSES) for s in range(2)]
    nothing = torch.zeros(30, 3, 1, 1)
    shown = (
        (View(torch.zeros(30, CLASSES), "class_logits", {"penultimate": rows}, torch.zeros(30)),
         Batch(nothing, nothing, labels, torch.arange(30)))
        for rows, labels in batches
    )  # fmt: skip
    matrix = method.prepare(shown, tiny_facts())["interrelation"]
    by_class = [torch.cat([rows[labels == c] for rows, labels in batches]).double().tolist() for c in range(CLASSES)]
    assert float(matrix[2, 7]) == pytest.approx(cka(by_class[2], by_class[7]), rel=1e-4)


@pytest.mark.parametrize("form", ["images", "pixels"])
def test_its_terms_are_the_formula(form):
    setup = Setup("wkd-l", "offline", {"wkd-l": {"weight": 3.0, "sharpness": 2.0, "tap": "stage3"}}, form=form)
    batch = setup.batch(0)
    views = setup.distiller.views(batch)[0]
    relation = setup.method.statistics["interrelation"]
    cost = 1 - torch.exp(-2 * (1 - relation))
    assert relation.shape == (CLASSES, CLASSES)
    assert float(cost.diagonal().abs().max()) == 0 and float(cost.max()) > 0.1
    own, other = views["student"].prediction, views["teacher"].prediction
    found = setup.losses_of(views, batch, 0.5).student
    moved = transport.transport_loss(own, other, batch.target, cost, 8.0, 0.05, 10, batch.mask)
    assert float(found["transport"].detach()) == pytest.approx(3 * float(moved.detach()), rel=1e-5)
    assert float(found["target"].detach()) == pytest.approx(
        float(logits.target_cross_entropy(own, other, batch.target, batch.mask).detach())
    )


@pytest.mark.parametrize(("progress", "share"), [(0.0, 1.0), (0.625, 1.0), (0.8125, 0.5), (1.0, 0.0)])
def test_its_weight_falls_along_a_cosine(progress, share):
    setup = Setup("wkd-l", "offline", {})
    full, now = (float(setup.losses(0, p).student["transport"].detach()) for p in (0.0, progress))
    assert now == pytest.approx(share * full, abs=1e-6)


def test_a_cost_whose_kernel_would_vanish_cannot_be_asked_for():
    with pytest.raises(AdmError, match=r"setting 'entropy' = 0\.001: Input should be greater than or equal to 0\.0125"):
        registry.create("wkd-l", {"wkd-l": {"entropy": 0.001}})


def test_a_stopped_training_resumes(tmp_path, monkeypatch):
    _, trained = whole_and_resumed(tmp_path, monkeypatch, "wkd-l", "offline", {"wkd-l": {"weight": 20.0}})
    assert {"train.student.target", "train.student.transport"} <= set(trained.curves)


def test_its_student_comes_nearer_to_an_opinionated_teacher():
    """In total variation of what the other classes get, against the same training without the transport."""
    distances, plan = {}, {"temperature": 1.0, "entropy": 0.1, "iterations": 50}
    for weight in (0.0, 5.0):
        run = trainer(recipe(), "wkd-l", "offline", settings={"wkd-l": plan | {"weight": weight}})
        with torch.no_grad():
            run.distiller.networks["teacher"].module.head.weight.mul_(30)
        trained = run.run()
        images, target = run.task.images(200, 5)
        with torch.no_grad():
            logits = (trained.networks[role].module(images) for role in ("student", "teacher"))
            student, teacher = (z.scatter(1, target[:, None], -math.inf).softmax(1) for z in logits)
        distances[weight] = float((student - teacher).abs().sum(1).mean()) / 2
    assert distances[5.0] < 0.8 * distances[0.0]


# --- features as normal distributions ---


def literal_gaussians(student, teacher, ratio, grid, valid):
    """Cell by cell and channel by channel."""
    found = []
    for b in range(len(student)):
        for row in range(grid):
            for column in range(grid):
                moments = []
                for maps in (student, teacher):
                    h, w = maps.shape[2] // grid, maps.shape[3] // grid
                    cell = (slice(row * h, (row + 1) * h), slice(column * w, (column + 1) * w))
                    step = valid.shape[1] // maps.shape[2]
                    counts = valid[b, ::step, ::step][cell]
                    if not counts.any():
                        break
                    values = [channel[cell][counts] for channel in maps[b]]
                    means = [v.sum() / len(v) for v in values]
                    spread = [
                        (sum((x - m) ** 2 for x in v) / len(v) + 1e-5).sqrt()
                        for v, m in zip(values, means, strict=True)
                    ]
                    moments.append((means, spread))
                if len(moments) == 2:
                    (ms, ss), (mt, st) = moments
                    means = sum((a - b) ** 2 for a, b in zip(ms, mt, strict=True))
                    found.append(ratio * means + sum((a - b) ** 2 for a, b in zip(ss, st, strict=True)))
    return sum(found) / len(found)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("grid", [1, 2])
def test_features_are_compared_by_mean_and_deviation_of_each_cell(grid, masked):
    """Values and gradients, of maps of two sizes; one image has no valid position, and one a cell without any."""
    student, teacher = 5 + numbers(3, 2, 4, 4, seed=1), 5 + numbers(3, 2, 8, 8, seed=2)
    coarse = torch.ones(3, 4, 4, dtype=torch.bool)
    if masked:
        coarse[0, :2, :2], coarse[1], coarse[2, 3, 1:] = False, False, False
    valid, found = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2), []
    for loss in (
        lambda s: transport.gaussian_distance(s, teacher, 4.0, grid, valid if masked else None),
        lambda s: literal_gaussians(s, teacher, 4.0, grid, valid),
    ):
        leaf = student.clone().requires_grad_()
        value = loss(leaf)
        found.append((value.detach(), torch.autograd.grad(value, leaf)[0]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-9)
    assert float(transport.gaussian_distance(teacher, teacher, 4.0, grid)) == 0.0


def test_wkd_f_weighs_the_distance_of_projected_maps_and_lets_it_fade():
    setup = Setup("wkd-f", "offline", {})
    views = setup.distiller.views(setup.batch(0))[0]
    projected = setup.distiller.parts["projector"](views["student"].features["last"])
    distance = transport.gaussian_distance(projected, views["teacher"].features["last"], 4.0, 1)
    for progress, share in ((0.0, 1.0), (0.8125, 0.5), (1.0, 0.0)):
        found = float(setup.losses(0, progress).student["distance"].detach())
        assert found == pytest.approx(0.08 * share * float(distance.detach()), rel=1e-4, abs=1e-9)


def test_a_grid_finer_than_the_maps_is_declined():
    shapes = {"prediction": (2, 5), "last": (2, 6, 4, 4)}
    reason = registry.create("wkd-f", {"wkd-f": {"grid": 5}}).supports(shapes, shapes, "offline")
    assert "no 5 cells a side" in reason
