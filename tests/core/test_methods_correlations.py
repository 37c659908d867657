"""PEFD, RSD, ITRD and SRD against literal loops on float64; what examples without a valid position do."""

import math

import pytest
import torch
from torchdistill.losses import mid_level

from adm_core.losses import correlations
from adm_core.testing.setup import Setup
from tests.core.literal import numbers

STUDENT, TEACHER = numbers(0, 6, 5), numbers(1, 6, 5)
EPS = 1e-5


def columns(vectors, divisor, eps=EPS):
    """Each dimension, centred and divided by its deviation, as a list of columns."""
    found = []
    for column in vectors.T:
        centred = [value - sum(column) / len(column) for value in column]
        deviation = (sum(c * c for c in centred) / len(column) + eps).sqrt() * math.sqrt(divisor / len(column))
        found.append([c / deviation for c in centred])
    return found


def product(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def literal_cross(s):
    own, other = columns(s, 6), columns(TEACHER, 6)
    total = 0
    for i, t in enumerate(other):
        for j, o in enumerate(own):
            r = product(t, o) / 6
            total = total + ((r - 1) ** 2 if i == j else 0.01 * r**2)
    return total


def literal_log(s):
    """Deviations are divided by B / (B - 1), products by B, as in the authors' code."""
    scale = 5 / 6
    pairs = zip(columns(s, 6), columns(TEACHER, 6), strict=True)
    return sum(abs(1 - scale * product(o, t) / 6) ** 3 for o, t in pairs).log2()


def literal_information(s):
    def cosine(v, i, j):
        return product(v[i], v[j]) / (product(v[i], v[i]) * product(v[j], v[j])).sqrt()

    own = [[cosine(s, i, j) for j in range(6)] for i in range(6)]
    joint = [[own[i][j] * cosine(TEACHER, i, j) for j in range(6)] for i in range(6)]
    squares = [sum((m[i][j] / 6) ** 2 for i in range(6) for j in range(6)) for m in (own, joint)]
    return squares[0] - squares[1]


def literal_sum(s):
    pairs = zip(columns(s, 6, 1e-4), columns(TEACHER, 6, 1e-4), strict=True)
    return sum(abs(a - b) ** 4 for o, t in pairs for a, b in zip(o, t, strict=True)).log()


LOSSES = {
    "rsd": (lambda s, t=TEACHER, known=None: correlations.cross_correlation(s, t, 0.01, known), literal_cross),
    "itrd, correlation": (lambda s, t=TEACHER, known=None: correlations.log_correlation(s, t, 1.5, known), literal_log),
    "itrd, information": (
        lambda s, t=TEACHER, known=None: correlations.matrix_information(s, t, known),
        literal_information,
    ),
    "srd": (lambda s, t=TEACHER, known=None: correlations.log_sum_distance(s, t, 4.0, known), literal_sum),
}


@pytest.mark.parametrize(("ours", "literal"), LOSSES.values(), ids=LOSSES)
def test_values_and_gradients_are_those_of_a_literal_loop(ours, literal):
    found = []
    for loss in (ours, literal):
        leaf = STUDENT.clone().requires_grad_()
        value = loss(leaf)
        found.append((value.detach(), torch.autograd.grad(value, leaf)[0]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-9)
    assert float(found[0][1].abs().max()) > 1e-3


@pytest.mark.parametrize("ours", [ours for ours, _ in LOSSES.values()], ids=LOSSES)
def test_an_example_that_does_not_count_is_as_if_not_there_and_none_at_all_gives_zero(ours):
    known = torch.tensor([True, True, False, True, True, True])
    student = torch.where(known[:, None], STUDENT, 100.0).requires_grad_()
    found = ours(student, TEACHER, known)
    torch.testing.assert_close(found.detach(), ours(STUDENT[known], TEACHER[known]), rtol=1e-9, atol=1e-12)
    (gradient,) = torch.autograd.grad(found, student)
    assert bool((gradient[2] == 0).all()) and float(gradient.abs().max()) > 0
    assert float(ours(STUDENT, TEACHER, torch.zeros(6, dtype=torch.bool))) == 0.0


@pytest.mark.parametrize("ours", [ours for ours, _ in LOSSES.values()], ids=LOSSES)
def test_equal_vectors_and_a_dead_dimension_give_finite_numbers(ours):
    dead = TEACHER.clone()
    dead[:, 2] = 0.0
    for student, teacher in ((TEACHER, TEACHER), (dead, dead), (STUDENT, dead), (dead, TEACHER)):
        leaf = student.clone().requires_grad_()
        value = ours(leaf, teacher)
        (gradient,) = torch.autograd.grad(value, leaf)
        assert bool(value.isfinite()) and bool(gradient.isfinite().all())


def test_srd_is_torchdistills_distance_behind_its_normalisation():
    oracle = mid_level.SRDLoss("f", "output", "f", "output", "z", "output", "z", "output", exponent=4.0)
    norm, logits = torch.nn.BatchNorm1d(5, eps=1e-4, affine=False).double(), numbers(2, 6, 3)
    given = [{"f": {"output": norm(v)}, "z": {"output": logits}} for v in (STUDENT, TEACHER)]
    expected = float(oracle(*given))
    assert 2 * float(correlations.log_sum_distance(STUDENT, TEACHER, 4.0)) == pytest.approx(expected, rel=1e-6)


def test_pefd_averages_projections_before_it_compares_directions():
    bench = Setup("pefd", "offline", {})
    views, parts = bench.distiller.views(bench.batch(0))[0], bench.distiller.parts["projectors"]
    own, other = (views[role].features["penultimate"].detach() for role in ("student", "teacher"))
    total = 0.0
    for f, t in zip(own, other, strict=True):
        projected = [(p[0].weight @ f + p[0].bias).clamp_min(0).detach().double() for p in parts]
        mean = sum(projected) / 3
        total += 1 - float(mean @ t.double() / (mean.norm() * t.double().norm()))
    assert float(bench.losses(0).student["direction"].detach()) == pytest.approx(25 * total / len(own), rel=1e-4)


@pytest.mark.parametrize("name", ["pefd", "rsd", "itrd", "srd"])
def test_the_terms_fall_when_trained(name):
    bench = Setup(name, "offline", {})
    each = [sum(float(term.detach()) for term in bench.losses(0).student.values()) for _ in range(20) if bench.step(0)]
    assert each[-1] < each[0]
