"""Methods on class logits against literal loops of their formulas: values, and gradients by finite differences."""

import math
from dataclasses import replace

import pytest
import torch
from torchdistill.losses.mid_level import LogitStdKDLoss

from adm_core import registry
from adm_core.losses import logits
from adm_core.testing.networks import tiny_facts
from tests.core.literal import kl, numbers, softmax, view
from tests.core.toy import make_step

B, K = 6, 5
LABELS = [0, 3, 1, 4, 2, 3]


def batch():
    """Logits of student and teacher, and labels; the teacher is right on some examples and wrong on others."""
    student, teacher, target = 3 * numbers(0, B, K), 3 * numbers(1, B, K), torch.tensor(LABELS)
    right = teacher.argmax(1) == target
    assert 0 < right.sum() < B
    return student, teacher, target


def terms(name, student, teacher, target, progress=0.5, mask=None, **settings):
    method = registry.create(name, {name: settings})
    method.take(method.build({}, {}, tiny_facts()))
    step = make_step(target, progress, torch.Generator().manual_seed(0), mask)
    return method.losses(view(student, target), view(teacher, target), step)


def total(name, *args, **settings):
    return sum(terms(name, *args, **settings).student.values())


def gradient(name, student, *args, **settings):
    student = student.detach().requires_grad_()
    return torch.autograd.grad(total(name, student, *args, **settings), student)[0]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def cross_entropy(p, q):
    return -sum(a * math.log(b) for a, b in zip(p, q, strict=True))


def deviation(row):
    centre = mean(row)
    return math.sqrt(sum((z - centre) ** 2 for z in row) / (len(row) - 1))


def within(row, classes, temperature):
    return softmax([row[c] for c in classes], temperature)


def two_way(row, classes, temperature):
    inside = sum(softmax(row, temperature)[c] for c in classes)
    return [inside, 1 - inside]


def best(row, count):
    return sorted(range(K), key=lambda c: -row[c])[:count]


def kd(s, t, temperature):
    return temperature**2 * kl(softmax(t, temperature), softmax(s, temperature))


def nkd(s, t, y, _):
    others = [c for c in range(K) if c != y]
    target = -softmax(t)[y] * math.log(softmax(s)[y])
    return target + 1.5 * 9 * cross_entropy(within(t, others, 3), within(s, others, 3))


def powers(t):
    raised = [p**0.3 for p in softmax(t)]
    return [r / sum(raised) for r in raised], sum(raised)


def wsld(s, t, y, now):
    weight = 1 - math.exp(-math.log(softmax(now)[y]) / math.log(softmax(t)[y]))
    return 2.25 * 16 * weight * cross_entropy(softmax(t, 4), softmax(s, 4))


def normkd(s, t, y, _):
    t_s, t_t = 2 * deviation(s), 2 * deviation(t)
    return 0.9 * t_t**2 * kl(softmax(t, t_t), softmax(s, t_s))


def gdkd(s, t, y, _):
    top = best(t, 2)
    rest = [c for c in range(K) if c not in top]
    parts = [kl(two_way(t, top, 4), two_way(s, top, 4))]
    parts += [kl(within(t, group, 4), within(s, group, 4)) for group in (top, rest)]
    return 16 * (parts[0] + 2 * parts[1] + 8 * parts[2])


def ldrld(s, t, y, now):
    top = best(now, 3)
    rest = [c for c in range(K) if c not in top]
    local = kl(within(t, top, 4), within(s, top, 4))
    for i in range(3):
        for j in range(i + 1, 3):
            weight = 2 * math.exp(-0.05 * (i + 1 + j + 1)) / (1.5 + j - i)
            local += weight * kl(within(t, [top[i], top[j]], 4), within(s, [top[i], top[j]], 4))
    return 16 * (10.5 * local / 4 + 7 * kl(within(t, rest, 4), within(s, rest, 4)))


def rld(s, t, y, _):
    lower = [c for c in range(K) if t[c] < t[y]]
    confidence = kl([max(softmax(t)), 1 - max(softmax(t))], two_way(s, [y], 1))
    return confidence + 8 * 16 * (kl(within(t, lower, 4), within(s, lower, 4)) if lower else 0)


def swap(s, t, y, _):
    t, top = list(t), best(t, 1)[0]
    t[y], t[top] = t[top], t[y]
    return kd(s, t, 4)


def rc(s, t, y, now):
    own = [z + max(now) * (c == y) for c, z in enumerate(now)]
    return kd(s, t, 4) + 0.1 * kd(s, own, 4)


def by_example(loss):
    """A loss of a batch that is the mean over its examples."""
    return lambda s, t, now: mean(loss(*rows) for rows in zip(s, t, LABELS, now, strict=True))


def lr(student, teacher, now):
    """Each part is a mean over its own examples."""
    right, wrong = [], []
    for s, t, y in zip(student, teacher, LABELS, strict=True):
        p, q = softmax(t), softmax(s)
        if best(t, 1)[0] == y:
            right.append(-math.log(q[y]) + 4 * mean((a - b) ** 2 for a, b in zip(s, t, strict=True)))
        else:
            beta = 0.8 / (max(p) - p[y] + 1)
            label = [beta * a + (1 - beta) * (c == y) for c, a in enumerate(p)]
            wrong.append(mean((a - b) ** 2 for a, b in zip(q, label, strict=True)))
    return mean(right) + mean(wrong)


def tekap(student, teacher, now):
    noise = torch.randn(3, B, K, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    loss = mean(kd(s, t, 4) for s, t in zip(student, teacher, strict=True))
    for copy in noise:
        noisy = [[0.9 * a + 0.1 * e for a, e in zip(t, n, strict=True)] for t, n in zip(teacher, copy, strict=True)]
        loss += 0.8 * mean(kd(s, t, 4) for s, t in zip(student, noisy, strict=True))
    return 0.9 * loss


def ctkd(s, t, y, _):
    return 0.9 * kd(s, t, 1 + 20 / (1 + math.exp(-1)))


ORACLES = [
    ("nkd", {"temperature": 3.0}, by_example(nkd)),
    ("ttm", {"exponent": 0.3}, by_example(lambda s, t, y, now: 45 * kl(powers(t)[0], softmax(s)))),
    ("wttm", {"exponent": 0.3}, by_example(lambda s, t, y, now: 45 * powers(t)[1] * kl(powers(t)[0], softmax(s)))),
    ("wsld", {}, by_example(wsld)),
    ("normkd", {}, by_example(normkd)),
    ("gdkd", {"k": 2, "top": 2.0}, by_example(gdkd)),
    ("ldrld", {"k": 3}, by_example(ldrld)),
    ("rld", {}, by_example(rld)),
    ("rld", {"correction": "swap"}, by_example(swap)),
    ("rld", {"correction": "rc"}, by_example(rc)),
    ("rld", {"correction": "lr"}, lr),
    ("tekap", {}, tekap),
    ("ctkd", {}, by_example(ctkd)),
]
NAMES = sorted({name for name, _, _ in ORACLES})


@pytest.mark.parametrize(("name", "settings", "literal"), ORACLES, ids=lambda of: getattr(of, "__name__", str(of)))
def test_values_and_gradients_are_those_of_the_literal_formula(name, settings, literal):
    """What the formula holds constant of the student is given apart, as it is now."""
    student, teacher, target = batch()
    now, t = student.tolist(), teacher.tolist()
    found = total(name, student, teacher, target, **settings).detach()
    assert float(found) == pytest.approx(literal(now, t, now), rel=1e-6)

    def slope(i, c, step=1e-5):
        high, low = ([[z + sign * step * ((i, c) == (j, k)) for k, z in enumerate(row)] for j, row in enumerate(now)]
                     for sign in (1, -1))  # fmt: skip
        return (literal(high, t, now) - literal(low, t, now)) / (2 * step)

    expected = torch.tensor([[slope(i, c) for c in range(K)] for i in range(B)], dtype=torch.float64)
    torch.testing.assert_close(gradient(name, student, teacher, target, **settings), expected, rtol=1e-6, atol=1e-7)


DENSE = [(name, settings) for name, settings, _ in ORACLES if name != "tekap"] + [("tekap", {"noise": 0.0})]


@pytest.mark.parametrize(("name", "settings"), DENSE, ids=str)
def test_pixels_count_as_examples_do_and_void_ones_not_at_all(name, settings):
    student, teacher = 3 * numbers(2, 2, K, 3, 4), 3 * numbers(3, 2, K, 3, 4)
    target = torch.arange(24).view(2, 3, 4) % K
    mask = numbers(4, 2, 3, 4) > -0.5
    assert 12 < mask.sum() < 24
    rows = [z.movedim(1, -1)[mask] for z in (student, teacher)]
    dense = terms(name, student, teacher, target, mask=mask, **settings).student
    flat = terms(name, *rows, target[mask], **settings).student
    assert dense.keys() == flat.keys()
    for key, term in dense.items():
        torch.testing.assert_close(term, flat[key])


@pytest.mark.parametrize(("name", "settings"), [(name, settings) for name, settings, _ in ORACLES], ids=str)
def test_two_classes_and_extreme_logits_stay_finite(name, settings):
    student = torch.tensor([[80.0, -80.0], [-3.0, 2.0], [0.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[-50.0, 50.0], [100.0, -100.0], [1.0, 1.0]])
    loss = total(name, student, teacher, torch.tensor([0, 1, 1]), **settings)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


@pytest.mark.parametrize("name", ["ttm", "wttm"])
def test_matching_the_teacher_itself_is_kd_at_temperature_one(name):
    student, teacher, target = batch()
    found = total(name, student, teacher, target, exponent=1.0, weight=2.0)
    torch.testing.assert_close(found, total("kd", student, teacher, target, temperature=1.0, weight=2.0))


def test_a_smoother_teacher_weighs_more_in_wttm():
    _, mass = logits.transformed_kl(torch.zeros(2, K), torch.stack([torch.zeros(K), 9 * torch.eye(K)[0]]), 0.5)
    assert mass.tolist() == pytest.approx([K**0.5, powers_of(9.0, 0.5)])


def powers_of(top, exponent):
    return sum(p**exponent for p in softmax([top] + [0.0] * (K - 1)))


def test_nkds_other_classes_have_the_gradient_of_dkds():
    student, teacher, target = batch()
    student.requires_grad_()
    ours = terms("nkd", student, teacher, target, temperature=4.0, weight=6.0).student["others"]
    theirs = total("dkd", student, teacher, target, alpha=0.0, beta=6.0)
    found, expected = (torch.autograd.grad(loss, student)[0] for loss in (ours, theirs))
    torch.testing.assert_close(found, expected)
    assert float(ours.detach()) != pytest.approx(float(theirs.detach()))


def test_rld_is_dkd_where_the_teacher_is_right():
    student, teacher, _ = batch()
    right = teacher.argmax(1)
    own = total("rld", student, teacher, right, alpha=1.5, confidence_temperature=4.0)
    torch.testing.assert_close(own, total("dkd", student, teacher, right, alpha=1.5))


def test_gdkd_of_one_class_is_dkd_where_the_teacher_is_right():
    student, teacher, _ = batch()
    own = total("gdkd", student, teacher, teacher.argmax(1), k=1, between=1.5, top=100.0)
    torch.testing.assert_close(own, total("dkd", student, teacher, teacher.argmax(1), alpha=1.5))


def test_of_two_ranked_classes_the_pair_is_the_set():
    student, teacher, target = batch()
    found = total("ldrld", student, teacher, target, k=2, local=1.0, rest=0.0)
    top = student.topk(2, 1).indices
    pair = logits.kl_divergence(student.gather(1, top), teacher.gather(1, top), 4.0)
    torch.testing.assert_close(found, (1 + 2 * math.exp(-0.15) / 2.5) / 2 * pair)


def test_rld_teaches_no_correlation_where_the_teacher_ranks_the_label_last():
    student, teacher, _ = batch()
    student.requires_grad_()
    term = terms("rld", student, teacher, teacher.argmin(1)).student["correlation"]
    assert float(term) == 0 and not torch.autograd.grad(term, student)[0].any()


def test_without_noise_tekap_is_kd_several_times():
    student, teacher, target = batch()
    found = total("tekap", student, teacher, target, noise=0.0)
    torch.testing.assert_close(found, (1 + 3 * 0.8) * total("kd", student, teacher, target))


@pytest.mark.parametrize(("progress", "strength"), [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (1.0, 1.0)])
def test_ctkds_temperature_ascends_what_the_student_descends(progress, strength):
    """The gradient is that of the literal loss in θ, times minus a share that rises along a cosine."""
    student, teacher, target = batch()
    method = registry.create("ctkd", {"ctkd": {"curriculum": 0.5}})
    method.take(method.build({}, {}, tiny_facts()))
    theta = method.parts["temperature"]["theta"]
    found = method.losses(view(student, target), view(teacher, target), make_step(target, progress, None))
    (slope,) = torch.autograd.grad(found.student["kd"], theta)

    def literal(value):
        temperature = 1 + 20 / (1 + math.exp(-value))
        return 0.9 * mean(kd(s, t, temperature) for s, t in zip(student.tolist(), teacher.tolist(), strict=True))

    rising = (literal(1 + 1e-4) - literal(1 - 1e-4)) / 2e-4
    assert abs(rising) > 1e-3
    assert float(slope) == pytest.approx(-strength * rising, rel=1e-4, abs=1e-9)
    assert float(found.log["temperature"]) == pytest.approx(1 + 20 / (1 + math.exp(-1)))


@pytest.mark.parametrize("name", ["dkd", "rld", "gdkd"])
def test_losses_with_a_ramp_rise_linearly(name):
    whole, half = (total(name, *batch(), progress=progress, warmup=0.2) for progress in (0.5, 0.1))
    torch.testing.assert_close(half, whole / 2)
    assert float(total(name, *batch(), progress=0.0, warmup=0.2)) == 0
    torch.testing.assert_close(total(name, *batch(), progress=0.0, warmup=0.0), whole)


@pytest.mark.parametrize("temperature", [2.0, 4.0])
def test_kd_of_standardised_logits_is_torchdistills(temperature):
    student, teacher, target = batch()
    library = LogitStdKDLoss("m", "output", "m", "output", temperature=temperature, beta=1.0)
    expected = temperature**2 * library(*({"m": {"output": z}} for z in (student, teacher)))
    found = total("kd", student, teacher, target, temperature=temperature, weight=1.0, standardise=True)
    torch.testing.assert_close(found, expected)


def standard(z):
    """By hand, row by row."""
    rows = [[(value - mean(row)) / (deviation(row) + 1e-7) for value in row] for row in z.tolist()]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("name", ["kd", "dkd", "rld"])
def test_a_method_with_standardised_logits_is_the_method_on_them(name):
    student, teacher, target = batch()
    expected = total(name, standard(student), standard(teacher), target)
    torch.testing.assert_close(total(name, student, teacher, target, standardise=True), expected)
    assert float(expected) != pytest.approx(float(total(name, student, teacher, target)), rel=0.01)
    again = total(name, standard(student), standard(teacher), target, standardise=True)
    torch.testing.assert_close(again, expected)  # what is standardised stays as it is


def test_nkd_standardises_the_other_classes_part_alone():
    student, teacher, target = batch()
    plain = terms("nkd", student, teacher, target).student
    ready = terms("nkd", standard(student), standard(teacher), target).student
    found = terms("nkd", student, teacher, target, standardise=True).student
    torch.testing.assert_close(found, {"target": plain["target"], "others": ready["others"]})


def test_standardised_logits_are_blind_to_scale_and_offset_and_keep_the_order():
    student, _, _ = batch()
    torch.testing.assert_close(logits.standardised(7 * student - 3), logits.standardised(student))
    assert torch.equal(logits.standardised(student).argsort(1), student.argsort(1))
    flat = torch.ones(2, K, requires_grad=True)
    logits.standardised(flat)[:, 0].sum().backward()
    assert flat.grad.isfinite().all()


def test_normkd_on_standardised_logits_is_kd():
    student, teacher, target = batch()
    found = total("normkd", standard(student), standard(teacher), target, scale=3.0)
    torch.testing.assert_close(found, total("kd", standard(student), standard(teacher), target, temperature=3.0))


@pytest.mark.parametrize("name", NAMES)
def test_a_student_that_is_its_teacher_has_nothing_to_learn(name):
    """Of the divergences, and in the gradients of the cross-entropies; labels are the teacher's own choice."""
    _, teacher, _ = batch()
    target = teacher.argmax(1)
    student = teacher.clone().requires_grad_()
    found = terms(name, student, teacher, target).student
    found.pop("target", None)  # NKD's part that pulls to the label
    found.pop("copies", None)  # the noise of TeKAP
    if name in ("ttm", "wttm"):
        found = terms(name, student, teacher, target, exponent=1.0).student
    (slope,) = torch.autograd.grad(sum(found.values()), student)
    assert float(slope.abs().max()) < 1e-9


def cells_view(seed, channels, target, side=4):
    """A network whose classifier is linear on the mean of its last map."""
    features, weight = numbers(seed, B, channels, side, side), 3 * numbers(seed + 1, K, channels)
    head = torch.nn.Linear(channels, K, bias=False, dtype=torch.float64).requires_grad_(False)
    head.weight.copy_(weight)
    shown = view(head(features.mean((2, 3))), target, last=features.requires_grad_())
    return replace(shown, head=head)


def sdd(student, teacher, target, **settings):
    method = registry.create("sdd", {"sdd": settings})
    found = method.losses(student, teacher, make_step(target, 0.5, torch.Generator()))
    return found.student["cells"], found.student_task


def dkd(s, t, y):
    others = [c for c in range(K) if c != y]
    return 16 * (kl(two_way(t, [y], 4), two_way(s, [y], 4)) + 8 * kl(within(t, others, 4), within(s, others, 4)))


@pytest.mark.parametrize(("base", "literal"), [("kd", lambda s, t, y: kd(s, t, 4)), ("dkd", dkd)])
def test_sdd_sums_over_cells_twice_where_cell_and_image_differ_in_being_right(base, literal):
    target = torch.tensor(LABELS)
    student, teacher = cells_view(0, 3, target), cells_view(2, 4, target)
    expected, doubled = [], 0
    for b, y in enumerate(LABELS):
        for side in (1, 2, 4):
            size = 4 // side
            for i in range(side):
                for j in range(side):
                    s, t = (
                        (shown.features["last"][b, :, i * size : (i + 1) * size, j * size : (j + 1) * size].mean((1, 2))
                         @ shown.head.weight.T).tolist() for shown in (student, teacher)
                    )  # fmt: skip
                    differs = (best(t, 1)[0] == y) != (int(teacher.prediction[b].argmax()) == y)
                    doubled += differs
                    expected.append((1 + differs) * literal(s, t, y))
    assert 0 < doubled < len(expected)
    found, task = sdd(student, teacher, target, base=base, cells=(1, 2, 4), task_weight=0.3)
    assert float(found.detach()) == pytest.approx(mean(expected), rel=1e-6) and task == 0.3
    (slope,) = torch.autograd.grad(found, student.features["last"])
    assert slope.abs().amax((1, 2, 3)).min() > 0


@pytest.mark.parametrize("base", ["kd", "dkd"])
def test_sdd_of_one_cell_is_its_base(base):
    target = torch.tensor(LABELS)
    student, teacher = cells_view(0, 3, target), cells_view(2, 4, target)
    plain = total(base, student.prediction, teacher.prediction, target)
    found, _ = sdd(student, teacher, target, base=base, cells=(1,), weight=0.9 if base == "kd" else 1.0)
    torch.testing.assert_close(found, plain)


def test_sdd_says_what_it_cannot_run_on():
    shapes = {"prediction": (2, K), "last": (2, 3, 4, 4), "head": (K, 3)}
    method = registry.create("sdd", {"sdd": {"cells": (1, 8)}})
    assert method.supports(shapes, shapes, "offline") == "the student's last map is smaller than 8×8 cells"
    without = {key: value for key, value in shapes.items() if key != "head"}
    assert registry.create("sdd").supports(shapes, without, "offline") == (
        "the teacher's classifier is no linear layer on the mean of its last map"
    )
    assert registry.create("sdd").supports(shapes, shapes, "offline") is None
