"""Methods that choose pixels (RDD, BSD, KDCL on dense predictions) against slow literal loops."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from adm_core import registry
from adm_core.align import resize_map
from adm_core.losses import difficulty, ensembles
from adm_core.method import View
from adm_core.testing.checks import check_method
from adm_core.testing.setup import Setup
from tests.core.toy import make_step

B, K, SIDE = 3, 4, 6


def maps(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labels(side=SIDE):
    return torch.randint(K, (B, side, side), generator=torch.Generator().manual_seed(5))


def valid_positions(side=SIDE):
    """About two thirds of each image, and nothing of the last one."""
    valid = torch.rand(B, side, side, generator=torch.Generator().manual_seed(7)) < 0.7
    valid[-1] = False
    return valid


def network(seed, target, skill):
    """Logits that are right at about the share ``skill`` of the pixels."""
    knows = torch.rand(target.shape, generator=torch.Generator().manual_seed(seed)) < skill
    right = 3.0 * F.one_hot(target, K).movedim(3, 1) * knows[:, None]
    return maps(seed, *right.shape) + right


def view(prediction, target, **features):
    loss = F.cross_entropy(resize_map(prediction, tuple(target.shape[1:])), target, reduction="none")
    return View(prediction, "class_logits", features, loss)


def losses(name, student, teacher, target, mask, progress=0.5, **settings):
    views = {"student": view(student, target), "teacher": view(teacher, target)}
    step = replace(make_step(target, progress, torch.Generator(), mask), views=views)
    method = registry.create(name, {name: settings})
    return method.losses(*views.values(), step)


def softmax(values):
    exps = [math.exp(v - max(values)) for v in values]
    return [e / sum(exps) for e in exps]


def at(prediction, place):
    b, i, j = place
    return softmax(prediction[b, :, i, j].tolist())


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def places(valid):
    return [tuple(place) for place in valid.nonzero().tolist()]


@pytest.fixture
def pair():
    target = labels()
    return network(0, target, 0.4), network(1, target, 0.8), target, valid_positions()


def test_rdd_begins_with_what_the_teacher_is_sure_of(pair):
    student, teacher, target, mask = pair
    expected, weights = 0.0, []
    for place in places(mask):
        weights.append(math.exp(sum(p * math.log(p) for p in at(teacher, place))))
        expected -= weights[-1] * math.log(at(student, place)[target[place]])
    ours = losses("rdd", student, teacher, target, mask, progress=0.05)
    assert float(ours.student["weighted"]) == pytest.approx(expected / len(weights), rel=1e-5)
    assert float(ours.log["weight"]) == pytest.approx(sum(weights) / len(weights), rel=1e-5)
    assert ours.student_task == 0.0 and not ours.teacher


def test_rdd_begins_where_the_teachers_auxiliary_classifier_agrees_with_it(pair):
    """KL of the main prediction from the auxiliary one, as the authors' ``KLDivLoss(log p_main, p_auxiliary)``."""
    student, teacher, target, mask = pair
    auxiliary, expected, count = network(2, target, 0.6), 0.0, 0
    for place in places(mask):
        weight = math.exp(-kl(at(auxiliary, place), at(teacher, place)))
        expected, count = expected - weight * math.log(at(student, place)[target[place]]), count + 1
    method, step = registry.create("rdd"), make_step(target, 0.05, torch.Generator(), mask)
    ours = method.losses(view(student, target), view(teacher, target, auxiliary1=auxiliary), step)
    assert float(ours.student["weighted"]) == pytest.approx(expected / count, rel=1e-5)


@pytest.mark.parametrize(("threshold", "least"), [(0.7, 0.05), (0.3, 0.0), (0.01, 0.4)])
def test_rdd_goes_on_with_what_is_hard_for_one_network_alone(pair, threshold, least):
    student, teacher, target, mask = pair

    def hard(prediction):
        found = {place: at(prediction, place)[target[place]] for place in places(mask)}
        everything = sorted([*found.values(), *[1.0] * (mask.numel() - len(found))])
        kept = everything[math.ceil(least * mask.numel()) - 1] if least else 0.0
        return {place for place, p in found.items() if p <= max(threshold, kept) + 1e-7}

    chosen = hard(student) ^ hard(teacher)
    assert 0 < len(chosen) < int(mask.sum())
    expected = sum(-math.log(at(student, place)[target[place]]) for place in chosen) / len(chosen)
    ours = losses("rdd", student, teacher, target, mask, threshold=threshold, least=least)
    assert float(ours.student["weighted"]) == pytest.approx(expected, rel=1e-5)
    assert float(ours.log["weight"]) == pytest.approx(len(chosen) / int(mask.sum()), rel=1e-5)


def test_rdd_keeps_its_first_weights_where_no_pixel_is_hard_for_one_network_alone(pair):
    student, teacher, target, mask = pair
    early, late = (losses("rdd", student, teacher, target, mask, p, threshold=1.0) for p in (0.0, 1.0))
    assert float(late.student["weighted"]) == float(early.student["weighted"]) > 0
    nothing = torch.zeros_like(mask)
    for progress in (0.0, 1.0):
        assert float(losses("rdd", student, teacher, target, nothing, progress).student["weighted"]) == 0.0


def test_rdd_weighs_the_pixels_of_the_labels_where_predictions_are_coarser():
    target, mask = labels().repeat_interleave(2, 1).repeat_interleave(2, 2), valid_positions(2 * SIDE)
    student, teacher = network(0, labels(), 0.4), network(1, labels(), 0.8)
    fine = resize_map(student, (2 * SIDE, 2 * SIDE)), resize_map(teacher, (2 * SIDE, 2 * SIDE))
    late = [losses("rdd", *two, target, mask).student["weighted"] for two in ((student, teacher), fine)]
    assert float(late[0]) == pytest.approx(float(late[1]), rel=1e-5)
    coarse = torch.special.entr(teacher.softmax(1)).sum(1, keepdim=True).neg().exp()
    weights = F.interpolate(coarse, size=target.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    expected = (weights * view(student, target).task_loss)[mask].mean()
    ours = losses("rdd", student, teacher, target, mask, progress=0.0).student["weighted"]
    assert float(ours) == pytest.approx(float(expected), rel=1e-5)


def test_rdd_beside_kd_replaces_the_tasks_loss():
    """The authors' training; KD's own share of the task's loss would contradict it."""
    kd = {"temperature": 1.0, "weight": 1.0, "task_weight": 0.0}
    assert [c for c in check_method("kd+rdd", {"kd": kd}) if not c.passed] == []
    bench = Setup("kd+rdd", "offline", {"kd": kd}, form="pixels")
    found = bench.losses()
    assert found.student_task == 0.0 and set(found.student) == {"kd.kd", "rdd.weighted"}
    assert found.student_auxiliary == 1.0  # the student's auxiliary classifier learns on


def literal_bsd(student, teacher, target, mask, region, by_pixel):
    """Both terms, and how many positions each network is the source of."""
    terms, counts = {"student": 0.0, "teacher": 0.0}, {"student": 0, "teacher": 0}
    predictions = {"student": student, "teacher": teacher}
    for b in range(B):
        for top in range(0, SIDE, region or 1):
            for left in range(0, SIDE, region or 1):
                block = [(b, i, j) for i in range(top, min(top + (region or 1), SIDE)) for j in
                         range(left, min(left + (region or 1), SIDE)) if mask[b, i, j]]  # fmt: skip
                if not block:
                    continue
                mean = {
                    role: sum(-math.log(at(p, place)[target[place]]) for place in block) / len(block)
                    for role, p in predictions.items()
                }
                sources = [min(mean, key=mean.get)] if region else list(predictions)
                for source in sources:
                    learner = "teacher" if source == "student" else "student"
                    for place in block:
                        p = at(predictions[source], place)
                        if not by_pixel or p.index(max(p)) == target[place]:
                            terms[learner] += kl(p, at(predictions[learner], place)) / int(mask.sum())
                            counts[source] += 1
    return terms, counts


@pytest.mark.parametrize("by_pixel", [True, False])
@pytest.mark.parametrize("region", [0, 1, 2, 4])
def test_bsd_is_the_literal_loop_over_regions(region, by_pixel):
    """Six positions a side, so that regions of four are cut off at the border."""
    target, mask = labels(), valid_positions()
    student, teacher = network(0, target, 0.5), network(1, target, 0.6)
    expected, counts = literal_bsd(student, teacher, target, mask, region, by_pixel)
    ours = losses("bsd", student, teacher, target, mask, region=region, by_pixel=by_pixel)
    assert float(ours.student["selective"]) == pytest.approx(expected["student"], rel=1e-5)
    assert float(ours.teacher["selective"]) == pytest.approx(expected["teacher"], rel=1e-5)
    for role, count in counts.items():
        assert count > 0 and float(ours.log[f"{role}_is_source"]) == pytest.approx(count / int(mask.sum()), rel=1e-5)


def test_bsd_teaches_every_region_in_one_direction_and_not_at_all_where_both_are_equal():
    target, mask = labels(), valid_positions()
    student, teacher = network(0, target, 0.5), network(1, target, 0.6)
    teacher[:, :, :4, :4] = student[:, :, :4, :4]
    to_student, to_teacher = difficulty.selective_sources(student, teacher, target, mask, 4, by_pixel=False)
    assert not (to_student & to_teacher).any()
    equal = torch.zeros_like(mask)
    equal[:, :4, :4] = True
    assert torch.equal(to_student | to_teacher, mask & ~equal)


def test_bsd_with_all_positions_both_ways_is_dml():
    target, mask = labels(), valid_positions()
    student, teacher = network(0, target, 0.5), network(1, target, 0.6)
    ours = losses("bsd", student, teacher, target, mask, region=0, by_pixel=False, temperature=2.0)
    dml = losses("dml", student, teacher, target, mask, temperature=2.0)
    assert float(ours.student["selective"]) == pytest.approx(float(dml.student["mutual"]), rel=1e-6)
    assert float(ours.teacher["selective"]) == pytest.approx(float(dml.teacher["mutual"]), rel=1e-6)


def best_share(student, teacher, target, mask):
    """The share of the student's logits, by trying, with which the ensemble is right most."""

    def error(a):
        z = a * student + (1 - a) * teacher
        return sum(-math.log(at(z, place)[target[place]]) for place in places(mask))

    return min((n / 100 for n in range(101)), key=error)


@pytest.mark.parametrize("form", ["mean", "naive", "min-logit", "linear"])
def test_kdcl_ensembles_of_pixels_are_literal(pair, form):
    student, teacher, target, mask = pair
    share = best_share(student, teacher, target, mask)
    found = ensembles.ensemble_target([student, teacher], target, form, mask)
    for place in places(mask):
        b, i, j = place
        y, s, t = int(target[place]), student[b, :, i, j].tolist(), teacher[b, :, i, j].tolist()
        better = s if at(student, place)[y] > at(teacher, place)[y] else t
        expected = {
            "mean": [(u + v) / 2 for u, v in zip(s, t, strict=True)],
            "naive": better,
            "min-logit": [min(u - s[y], v - t[y]) for u, v in zip(s, t, strict=True)],
            "linear": [share * u + (1 - share) * v for u, v in zip(s, t, strict=True)],
        }[form]
        assert found[b, :, i, j].tolist() == pytest.approx(expected, abs=0.05 if form == "linear" else 1e-5)


@pytest.mark.parametrize("form", ["mean", "naive", "min-logit", "linear"])
def test_kdcl_on_pixels_is_the_mean_over_valid_ones(pair, form):
    student, teacher, target, mask = pair
    ensemble = ensembles.ensemble_target([student, teacher], target, form, mask)
    ours = losses("kdcl", student, teacher, target, mask, ensemble=form, temperature=2.0, alpha=0.3)
    for role, own in (("student", student), ("teacher", teacher)):
        each = [4 * kl(at(ensemble / 2, place), at(own / 2, place)) for place in places(mask)]
        term = getattr(ours, role)["ensemble"]
        assert float(term) == pytest.approx(0.3 * sum(each) / len(each), rel=1e-4)


@pytest.mark.parametrize("name", ["rdd", "bsd", "cirkd"])
def test_methods_for_pixels_decline_images_with_a_reason(name):
    shapes = {"prediction": (2, K), "penultimate": (2, 8)}
    assert "dense predictions" in registry.create(name).supports(shapes, shapes, "online")
