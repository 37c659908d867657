"""EA-KD, DeepKD, SKD of 2026, CRLD and KD++ against literal loops: values, gradients and identities."""

import math
from dataclasses import replace

import pytest
import torch

from adm_core import registry
from adm_core.batch import Batch
from adm_core.losses import difficulty, directions
from adm_core.testing.networks import tiny_facts
from adm_core.testing.setup import Setup
from tests.core.literal import numbers, view
from tests.core.test_methods_relations import agree
from tests.core.toy import make_step

B, K = 6, 5
STUDENT, TEACHER = 3 * numbers(0, B, K), 3 * numbers(1, B, K)
LABELS = torch.tensor([0, 3, 1, 4, 2, 3])


def found(name, student, teacher, mask=None, target=LABELS, progress=0.5, **settings):
    method = registry.create(name, {name: settings})
    return method.losses(view(student, target), view(teacher, target), make_step(target, progress, None, mask))


def total(name, student, teacher, **settings):
    return sum(found(name, student, teacher, **settings).student.values())


def divergence(student, teacher, temperature=4.0):
    """T² KL of two rows of logits, class by class."""
    p, q = ((row / temperature).exp() / (row / temperature).exp().sum() for row in (teacher, student))
    return temperature**2 * sum(p[c] * (p[c] / q[c]).log() for c in range(len(p)))


def decoupled(student, teacher, label):
    """DKD's sum of two rows with weights 1 and 8 at T = 4."""
    p, q = ((row / 4).exp() / (row / 4).exp().sum() for row in (teacher, student))
    others = [c for c in range(K) if c != int(label)]
    binary = p[label] * (p[label] / q[label]).log() + (1 - p[label]) * ((1 - p[label]) / (1 - q[label])).log()
    return 16 * binary + 8 * divergence(student[others], teacher[others])


def entropy(row):
    p = [math.exp(z / 3) for z in row.tolist()]
    return -sum(x / sum(p) * math.log(x / sum(p)) for x in p)


def entropies(student, bound):
    """The weight of each example; constant, so that it is taken of plain numbers."""
    return [entropy(t) * (1 + entropy(s) / bound) / 2 for s, t in zip(student, TEACHER, strict=True)]


@pytest.mark.parametrize(("form", "bound"), [("paper", math.log(K)), ("as-released", 100.0)])
@pytest.mark.parametrize("base", ["kd", "dkd"])
def test_ea_kd_is_a_loop_that_weighs_each_example(base, form, bound):
    def literal(s):
        rows = zip(entropies(s.detach(), bound), s, TEACHER, LABELS, strict=True)
        each = [w * (divergence(a, b) if base == "kd" else decoupled(a, b, y)) for w, a, b, y in rows]
        return 0.9 * sum(each) / B

    agree(lambda s: total("ea-kd", s, TEACHER, base=base, form=form), literal, STUDENT)
    logged = found("ea-kd", STUDENT, TEACHER, base=base, form=form).log["weight"]
    assert float(logged) == pytest.approx(sum(entropies(STUDENT, bound)) / B)


def test_uniform_predictions_weigh_log_k():
    weight = difficulty.entropy_weight(torch.zeros(2, K), torch.zeros(2, K), 3.0, math.log(K))
    assert weight.tolist() == pytest.approx([math.log(K)] * 2)


def test_ea_kd_with_equal_entropies_is_kd_by_their_weight():
    """Rows that hold the same logits in another order are equally sure."""
    student = torch.stack([TEACHER[0].roll(i) for i in range(B)])
    teacher = torch.stack([TEACHER[0].roll(2 * i + 1) for i in range(B)])
    weight = entropy(TEACHER[0]) * (1 + entropy(TEACHER[0]) / math.log(K)) / 2
    torch.testing.assert_close(total("ea-kd", student, teacher), weight * total("kd", student, teacher))


@pytest.mark.parametrize("name", ["ea-kd", "deepkd"])
@pytest.mark.parametrize("base", ["kd", "dkd"])
def test_pixels_weigh_as_examples_do_and_void_ones_not_at_all(name, base):
    student, teacher, mask = 3 * numbers(2, 2, K, 3, 4), 3 * numbers(3, 2, K, 3, 4), numbers(4, 2, 3, 4) > -0.5
    target = torch.arange(24).view(2, 3, 4) % K
    rows = [z.movedim(1, -1)[mask] for z in (student, teacher)]
    dense = found(name, student, teacher, mask, target, base=base)
    flat = found(name, *rows, None, target[mask], base=base)
    torch.testing.assert_close(dense.student, flat.student)
    torch.testing.assert_close(dense.log, flat.log)


@pytest.mark.parametrize(
    ("name", "settings"), [("ea-kd", {}), ("ea-kd", {"base": "dkd"}), ("skd26", {}), ("deepkd", {})], ids=str
)
def test_two_classes_extreme_logits_and_one_example_stay_finite(name, settings):
    for rows in (3, 1):
        student = torch.tensor([[80.0, -80.0], [-3.0, 2.0], [0.0, 0.0]])[:rows].requires_grad_()
        teacher, target = torch.tensor([[-50.0, 50.0], [100.0, -100.0], [1.0, 1.0]])[:rows], torch.tensor([0, 1, 1])
        loss = sum(found(name, student, teacher, target=target[:rows], **settings).student.values())
        loss.backward()
        assert loss.isfinite() and student.grad.isfinite().all()


def parts_by_loop(student, teacher, label, count):
    """DKD's parts of two rows at T = 4, the second among the classes that the teacher ranks highest."""
    p, q = ((row / 4).exp() / (row / 4).exp().sum() for row in (teacher, student))
    binary = p[label] * (p[label] / q[label]).log() + (1 - p[label]) * ((1 - p[label]) / (1 - q[label])).log()
    best = sorted((c for c in range(K) if c != int(label)), key=lambda c: -float(teacher[c]))[:count]
    return 16 * binary, divergence(student[best], teacher[best]), 1 - p[label]


@pytest.mark.parametrize(("progress", "count"), [(0.0, 2), (0.5, 3), (1.0, 4)])
def test_deepkd_is_a_loop_over_examples_and_ever_more_of_the_other_classes(progress, count):
    def literal(s):
        loss = 0.0
        for row, other, label in zip(s, TEACHER, LABELS, strict=True):
            target, rest, weight = parts_by_loop(row, other, label, count)
            loss = loss + (target + weight * rest) / B
        return loss

    agree(lambda s: sum(found("deepkd", s, TEACHER, progress=progress).student.values()), literal, STUDENT)


def test_the_released_deepkd_multiplies_means_and_takes_all_classes():
    def literal(s):
        rows = zip(s, TEACHER, LABELS, strict=True)
        target, rest, weight = (sum(part) / B for part in zip(*(parts_by_loop(*r, K) for r in rows), strict=True))
        return target + weight * rest

    agree(
        lambda s: sum(found("deepkd", s, TEACHER, progress=0.0, form="as-released").student.values()), literal, STUDENT
    )


def test_deepkd_of_all_classes_is_kd_or_dkd_taken_apart():
    torch.testing.assert_close(total("deepkd", STUDENT, TEACHER, start=1.0), total("kd", STUDENT, TEACHER, weight=1.0))
    base = {"base": "dkd", "start": 1.0, "alpha": 0.5, "beta": 3.0}
    for progress in (1 / 24, 0.5):
        ours = sum(found("deepkd", STUDENT, TEACHER, progress=progress, **base).student.values())
        theirs = found("dkd", STUDENT, TEACHER, progress=progress, alpha=0.5, beta=3.0).student["dkd"]
        torch.testing.assert_close(ours, theirs)


def relations_by_loop(student, ridge=0.1):
    def cosine(a, b):
        return sum(a * b) / (sum(a * a).sqrt() * sum(b * b).sqrt())

    rows = [[cosine(student[i], student[j]) - cosine(TEACHER[i], TEACHER[j]) for j in range(B)] for i in range(B)]
    difference = torch.stack([torch.stack(row) for row in rows]) / K
    inverse = torch.linalg.inv(difference.T.cov() + ridge * torch.eye(B, dtype=torch.float64))
    return [(row @ inverse @ row).sqrt() for row in difference]


def test_skd26_is_a_loop_over_examples_and_pairs_of_them():
    """Masks by hand: three examples are at most as sure as the median, three of five classes as rare."""
    unsure = TEACHER.softmax(1).amax(1) <= TEACHER.softmax(1).amax(1).sort().values[2:4].mean()
    assert int(unsure.sum()) == 3

    def paper(s):
        each = [divergence(a, b) * m for a, b, m in zip(s, TEACHER, unsure, strict=True)]
        return 0.9 * (sum(each) + sum(relations_by_loop(s))) / B

    def released(s):
        each = [divergence(a, b) for a, b in zip(s, TEACHER, strict=True)]
        return 0.9 * (sum(each) / B * 3 / 6 + sum(relations_by_loop(s)) / B * 3 / 5)

    agree(lambda s: total("skd26", s, TEACHER), paper, STUDENT)
    agree(lambda s: total("skd26", s, TEACHER, form="as-released"), released, STUDENT)


def test_skd26_asks_for_nothing_of_a_student_that_is_its_teacher_and_for_no_scale_of_logits_in_relations():
    student = TEACHER.clone().requires_grad_()
    (slope,) = torch.autograd.grad(total("skd26", student, TEACHER), student)
    assert float(slope.abs().max()) < 1e-9
    assert float(found("skd26", 3 * TEACHER, TEACHER).student["relations"]) == pytest.approx(0, abs=1e-9)


def crld(weak, strong, **settings):
    """Terms on logits of (student, teacher) on each view."""
    views, extra = (
        {role: view(z, LABELS) for role, z in zip(("student", "teacher"), pair, strict=True)} for pair in (weak, strong)
    )
    step = replace(make_step(LABELS, 0.5, None), views=views, extra=extra)
    return registry.create("crld", {"crld": settings}).losses(views["student"], views["teacher"], step)


def test_crld_is_a_loop_over_examples_that_the_teacher_is_sure_of():
    strong = 3 * numbers(2, B, K), 3 * numbers(3, B, K)
    sure_w = [float(row.softmax(0).max()) >= 0.8 for row in TEACHER]
    sure_s = [float(row.softmax(0).max()) >= 0.6 for row in strong[1]]
    assert 0 < sum(sure_w) < B and 0 < sum(sure_s) < B and sure_w != sure_s
    levels = {"weak_confidence": 0.8, "strong_confidence": 0.6}

    def literal(both):
        weak_s, strong_s, loss = both[:B], both[B:], 0.0
        for b in range(B):
            ww, ss = divergence(weak_s[b], TEACHER[b]), divergence(strong_s[b], strong[1][b])
            ws, sw = divergence(strong_s[b], TEACHER[b]), divergence(weak_s[b], strong[1][b])
            loss = loss + (2 * sure_w[b] * (ww + ss) + 0.5 * sure_s[b] * (ws + sw)) / B
            loss = loss - (strong_s[b].exp()[LABELS[b]] / strong_s[b].exp().sum()).log() / B
        return loss

    def ours(both):
        return sum(crld((both[:B], TEACHER), (both[B:], strong[1]), **levels).student.values())

    agree(ours, literal, torch.cat([STUDENT, strong[0]]))


def test_crld_of_one_view_twice_is_kd():
    """With every example taken, all four divergences are the same one."""
    same = crld((STUDENT, TEACHER), (STUDENT, TEACHER), weak_confidence=0.0, strong_confidence=0.0).student
    kd = total("kd", STUDENT, TEACHER, weight=1.0)
    torch.testing.assert_close(same["within"], 4 * kd)
    torch.testing.assert_close(same["across"], kd)
    unsure = crld((STUDENT, TEACHER), (STUDENT, TEACHER), weak_confidence=1.0).student
    assert float(unsure["within"]) == 0.0 < float(unsure["across"])


VECTORS = numbers(5, B, 4), numbers(6, B, 4), numbers(7, K, 4)


def test_norm_and_direction_is_a_loop_over_examples():
    student, teacher, centres = VECTORS

    def length(v):
        return sum(v * v).sqrt()

    def literal(s):
        loss = 0.0
        for own, other, y in zip(s, teacher, LABELS, strict=True):
            centre = centres[y] / length(centres[y])
            loss = loss + 1 - sum(own * centre) / max(length(own), length(other))
        return loss / B

    longer = student.norm(dim=1) > teacher.norm(dim=1)
    assert 0 < longer.sum() < B
    agree(lambda s: directions.norm_and_direction(s, teacher, centres, LABELS), literal, student)


def test_norm_and_direction_is_zero_along_the_centre_at_the_teachers_length_or_more():
    _, teacher, centres = VECTORS
    along = centres[LABELS] / centres[LABELS].norm(dim=1, keepdim=True) * teacher.norm(dim=1, keepdim=True)
    values = [float(directions.norm_and_direction(f * along, teacher, centres, LABELS)) for f in (0.5, 1.0, 2.0)]
    assert values == pytest.approx([0.5, 0.0, 0.0], abs=1e-12)


def test_norm_and_direction_of_pixels_counts_valid_ones_as_examples():
    maps, centres = (numbers(8, 2, 4, 3, 3), numbers(9, 2, 4, 3, 3)), VECTORS[2]
    target, mask = torch.arange(18).view(2, 3, 3) % K, numbers(10, 2, 3, 3) > -0.3
    rows = [m.movedim(1, -1)[mask] for m in maps]
    dense = directions.norm_and_direction(*maps, centres, target, mask)
    torch.testing.assert_close(dense, directions.norm_and_direction(*rows, centres, target[mask]))


def test_a_class_without_examples_and_a_vector_of_zeros_are_taught_finitely():
    student = torch.zeros(2, 4, requires_grad=True)
    loss = directions.norm_and_direction(student, torch.zeros(2, 4), torch.zeros(K, 4), torch.tensor([0, 1]))
    assert float(loss.detach()) == 1.0 and not torch.autograd.grad(loss, student)[0].any()


def test_kdpps_centres_are_the_means_of_a_pass():
    vectors, labels = (
        [numbers(20 + n, 4, 3) for n in range(2)],
        [torch.tensor([0, 1, 1, 3]), torch.tensor([3, 3, 0, 1])],
    )
    shown = (
        (view(torch.zeros(4, 5), y, penultimate=v), Batch(torch.zeros(4), torch.zeros(4), y, torch.arange(4)))
        for v, y in zip(vectors, labels, strict=True)
    )
    made = registry.create("kdpp").prepare(shown, replace(tiny_facts(), classes=5))["centres"]
    rows, classes = torch.cat(vectors), torch.cat(labels)
    for k in range(5):
        members = [row for row, y in zip(rows, classes, strict=True) if y == k]
        expected = sum(members) / len(members) if members else torch.zeros(3, dtype=torch.float64)
        torch.testing.assert_close(made[k], expected)


def test_kdpp_is_kd_with_a_ramp_and_its_own_term():
    bench = Setup("kdpp", "offline", {})
    half, full = (bench.losses(0, progress).student for progress in (1 / 24, 0.5))
    views = bench.distiller.views(bench.batch(0))[0]
    pair = (views[role].prediction.detach() for role in ("student", "teacher"))
    target = bench.batch(0).target
    expected = total("kd", *pair, weight=1.0, target=target)
    torch.testing.assert_close(full["kd"].detach(), expected)
    torch.testing.assert_close(2 * half["kd"], full["kd"])
    torch.testing.assert_close(half["direction"], full["direction"])
    alone = Setup("dkd+kdpp", "offline", {"kdpp": {"kd_weight": 0.0}}).losses(0).student
    assert alone.keys() == {"dkd.dkd", "kdpp.direction"}
