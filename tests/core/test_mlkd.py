"""MLKD against literal loops, and its second, stronger view through the trainer."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from adm_core import registry
from adm_core.losses.difficulty import lower_half
from adm_core.losses.relations import gram_distance
from adm_core.recipe import Optimizer, Recipe
from tests.core.literal import dot, kl, numbers, softmax, view
from tests.core.toy import ToyTask, make_step, trainer

B, K = 6, 5
RECIPE = Recipe(epochs=3, batch_size=16, optimizer=Optimizer(name="sgd", lr=0.05))


def mlkd(weak, strong, target, **settings):
    """Terms on logits of (student, teacher) on each view."""
    views = {role: view(z, target) for role, z in zip(("student", "teacher"), weak, strict=True)}
    extra = {role: view(z, target) for role, z in zip(("student", "teacher"), strong, strict=True)}
    step = replace(make_step(target, 0.5, torch.Generator()), views=views, extra=extra)
    return registry.create("mlkd", {"mlkd": settings}).losses(views["student"], views["teacher"], step)


@pytest.fixture
def logits():
    """Of student and teacher on the weak view, and on the strong one; and the labels."""
    return [3 * numbers(s, B, K) for s in (0, 1)], [3 * numbers(s, B, K) for s in (2, 3)], torch.arange(B) % K


def rows_by_hand(student, teacher, temperature):
    """Instance, class and batch terms of MLKD before masks and means, by loops."""
    p, q = ([softmax(row, temperature) for row in z.tolist()] for z in (student, teacher))
    instance = [temperature**2 * kl(q[i], p[i]) for i in range(B)]
    batch = [sum((dot(p[i], p[j]) - dot(q[i], q[j])) ** 2 for j in range(B)) for i in range(B)]
    columns_p, columns_q = list(zip(*p, strict=True)), list(zip(*q, strict=True))
    classes = [
        sum((dot(columns_p[c], columns_p[d]) - dot(columns_q[c], columns_q[d])) ** 2 for d in range(K))
        for c in range(K)
    ]
    return instance, classes, batch


def masks_by_hand(teacher):
    """Of the examples of which the teacher is less sure, and of the classes that it sees less of."""
    probabilities = np.array([softmax(row) for row in teacher.tolist()])
    confidence, share = probabilities.max(1), probabilities.sum(0)
    return confidence <= np.percentile(confidence, 50), share <= np.percentile(share, 50)


def mean(values, mask=None):
    return float(np.mean(np.array(values) * (1 if mask is None else mask)))


def test_mlkd_is_the_literal_sum_with_masked_rows(logits):
    weak, strong, target = logits
    unsure, rare = masks_by_hand(weak[1])
    assert unsure.sum() == B / 2 and rare.sum() == (K + 1) / 2
    expected = dict.fromkeys(("instance", "class", "batch"), 0.0)
    for temperature in (2, 3, 4, 5, 6):
        instance, classes, batch = rows_by_hand(*weak, temperature)
        expected["instance"] += mean(instance, unsure)
        expected["class"] += mean(classes, rare)
        expected["batch"] += mean(batch, unsure)
        instance, classes, batch = rows_by_hand(*strong, temperature)
        expected["instance"] += mean(instance)
        expected["class"] += mean(classes)
        expected["batch"] += mean(batch, unsure)
    found = mlkd(weak, strong, target)
    assert found.student_task == 0.1
    for name, value in expected.items():
        assert float(found.student[name]) == pytest.approx(0.9 * value, rel=1e-9), name
    expected = 0.1 * -np.mean([math.log(softmax(row)[c]) for row, c in zip(strong[0].tolist(), target, strict=True)])
    assert float(found.student["strong_task"]) == pytest.approx(expected)


@pytest.mark.parametrize("base", [4, 2, 6])
def test_mlkd_as_released_masks_means_and_leaves_parts_of_the_strong_view_out(logits, base):
    """The base temperature reads the strong view also where it is one of those that are written out for the weak."""
    weak, strong, target = logits
    unsure, rare = masks_by_hand(weak[1])
    expected = dict.fromkeys(("instance", "class", "batch"), 0.0)
    temperatures = (base, 3, 5, 2, 6)
    for index, temperature in enumerate(temperatures):
        instance, classes, batch = rows_by_hand(*weak, temperature)
        expected["instance"] += mean(instance) * unsure.mean()
        expected["class"] += mean(classes) * rare.mean()
        expected["batch"] += mean(batch) * unsure.mean()
        again = weak if index > 0 and temperature in (2, 6) else strong
        expected["instance"] += mean(rows_by_hand(*again, temperature)[0])
    found = mlkd(weak, strong, target, form="as-released", temperatures=temperatures).student
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(0.9 * value, rel=1e-9), name


def test_mlkd_standardises_logits_in_its_instance_term_alone(logits):
    weak, strong, target = logits
    unsure, _ = masks_by_hand(weak[1])

    def standard(z):
        return (z - z.mean(1, keepdim=True)) / (z.std(1, keepdim=True) + 1e-7)

    instance = [
        mean(rows_by_hand(*map(standard, weak), t)[0], unsure) + mean(rows_by_hand(*map(standard, strong), t)[0])
        for t in (2, 3, 4, 5, 6)
    ]
    found, plain = mlkd(weak, strong, target, standardise=True).student, mlkd(weak, strong, target).student
    assert float(found["instance"]) == pytest.approx(0.9 * sum(instance), rel=1e-9)
    assert all(torch.equal(found[name], plain[name]) for name in ("class", "batch", "strong_task"))


def test_mlkd_learns_nothing_of_examples_the_teacher_is_sure_of_in_the_weak_view(logits):
    (student, teacher), strong, target = logits
    student = student.requires_grad_()
    sure = ~torch.from_numpy(masks_by_hand(teacher)[0])
    (gradient,) = torch.autograd.grad(mlkd((student, teacher), strong, target).student["instance"], student)
    assert not gradient[sure].any() and gradient[~sure].abs().sum(1).min() > 0
    released = mlkd((student, teacher), strong, target, form="as-released").student["instance"]
    assert torch.autograd.grad(released, student)[0][sure].any()


def test_mlkd_is_zero_where_the_student_is_the_teacher(logits):
    (student, _), (strong, _), target = logits
    found = mlkd((student, student), (strong, strong), target).student
    assert all(float(found[name]) == pytest.approx(0, abs=1e-12) for name in ("instance", "class", "batch"))


def test_rows_of_gram_distances_sum_to_the_squared_frobenius_norm():
    a, b = numbers(0, B, 3), numbers(1, B, 7)
    expected = torch.linalg.matrix_norm(a @ a.T - b @ b.T) ** 2
    torch.testing.assert_close(gram_distance(a, b).sum(), expected)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_the_lower_half_is_what_the_median_does_not_exceed(count):
    values = numbers(count, count)
    assert lower_half(values).tolist() == (values.numpy() <= np.percentile(values.numpy(), 50)).tolist()


class StrongerToy(ToyTask):
    """Each image once more with half of it hidden; labels are hidden from nobody."""

    def batches(self, epoch, start):
        for batch in super().batches(epoch, start):
            noise = torch.randn(batch.student_input.shape, generator=torch.Generator().manual_seed(epoch))
            yield replace(batch, extra_input=batch.student_input + 0.5 * noise)


def divergence_on_strong(t):
    """KL of the student from the teacher on stronger views of images that nobody trained on."""
    images, _ = t.task.images(200, 99)
    images = images + 0.5 * torch.randn(images.shape, generator=torch.Generator().manual_seed(98))
    t.distiller.eval()
    with torch.no_grad():
        student, teacher = (t.distiller.networks[role].module(images) for role in ("student", "teacher"))
    return float(F.kl_div(student.log_softmax(1), teacher.log_softmax(1), log_target=True, reduction="batchmean"))


def test_mlkd_trains_a_student_that_predicts_as_the_teacher_on_strong_views():
    made = {}
    for method in ("none", "mlkd"):
        made[method] = trainer(RECIPE, method, "offline", StrongerToy())
        made[method].run()
    assert divergence_on_strong(made["mlkd"]) < 0.3 * divergence_on_strong(made["none"])


def test_mlkd_says_what_is_missing_where_batches_have_no_strong_view():
    with pytest.raises(Exception, match="'mlkd' needs a strong view, which this task lacks"):
        trainer(RECIPE, "mlkd", "offline", ToyTask()).run()
