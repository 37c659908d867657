"""Methods that change the student's features or logits before they are compared: literal loops, and what is trained."""

import math

import pytest
import torch

from adm_core import losses, registry
from adm_core.orthogonal import OrthogonalLinear
from adm_core.testing.setup import Setup
from tests.core.literal import numbers, softmax


def agree(ours, literal, leaf):
    """Values and gradients of two losses of a leaf, to 1e-6."""
    found = []
    for loss in (ours, literal):
        own = leaf.clone().requires_grad_()
        value = loss(own)
        found.append((value.detach(), torch.autograd.grad(value, own)[0]))
    (value, gradient), (expected, slope) = found
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(gradient, slope, rtol=1e-6, atol=1e-6 * float(slope.abs().max()))
    assert float(slope.abs().max()) > 0


def views(setup):
    shown = setup.distiller.views(setup.batch(0))[0]
    return shown["student"], shown["teacher"]


def test_vkds_distance_is_a_loop_over_channels():
    teacher = 3 * numbers(1, 4, 5) + 1

    def literal(s):
        total = 0
        for own, other in zip(s, teacher.tolist(), strict=True):
            mean = sum(other) / len(other)
            deviation = math.sqrt(sum((x - mean) ** 2 for x in other) / len(other) + 1e-5)
            for x, y in zip(own, other, strict=True):
                error = (x - (y - mean) / deviation).abs()
                total = total + (error**2 / 2 if error < 1 else error - 0.5)
        return total / teacher.numel()

    agree(lambda s: losses.features.normalised_distance(s, teacher).mean(), literal, 2 * numbers(0, 4, 5))


@pytest.mark.parametrize(("inputs", "outputs"), [(5, 7), (7, 5), (6, 6)])
def test_vkds_projector_learns_and_stays_orthogonal_under_weight_decay(inputs, outputs):
    """torch's own parametrisation becomes zero in the first step with weight decay, where it is not square."""
    torch.manual_seed(0)
    layer = OrthogonalLinear(inputs, outputs)
    x = torch.randn(64, inputs)
    wanted = x @ OrthogonalLinear(inputs, outputs).matrix().detach().T
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.02, weight_decay=5e-2)
    found, moves = [], []
    for _ in range(200):
        before, loss = layer.matrix().detach(), (layer(x) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
        moves.append(float((layer.matrix().detach() - before).norm()))
    matrix = layer.matrix().detach()
    gram = matrix.T @ matrix if inputs <= outputs else matrix @ matrix.T
    torch.testing.assert_close(gram, torch.eye(len(gram)), rtol=0, atol=1e-5)
    assert found[-1] < 0.7 * found[0]
    assert max(moves) < 0.5  # a column whose sign jumps moves by two


@pytest.mark.parametrize("form", ["images", "pixels"])
def test_vkd_reads_the_mean_of_an_image_and_every_position_of_a_dense_prediction(form):
    setup = Setup("vkd", "offline", {"vkd": {"weight": 2.0}}, form=form)
    student, teacher = views(setup)
    own, other, weight = (
        student.features["last"],
        teacher.features["last"],
        setup.distiller.parts["projector"].matrix().detach(),
    )
    if form == "images":
        pairs = [(o.mean((1, 2)), t.mean((1, 2))) for o, t in zip(own, other, strict=True)]
    else:
        mask = setup.batch(0).mask[:, ::2, ::2]
        pairs = [(own[b, :, y, x], other[b, :, y, x]) for b, y, x in mask.nonzero().tolist()]
    total = sum(float(losses.features.normalised_distance(weight @ o.detach(), t)) for o, t in pairs)
    found = float(setup.losses(0).student["projected"].detach())
    assert found == pytest.approx(2 * total / len(pairs), rel=1e-4)


@pytest.mark.parametrize("exponent", [1.0, 1.4])
def test_ofas_loss_is_a_loop_over_classes(exponent):
    teacher, target = numbers(3, 4, 5), [0, 3, 4, 3]

    def literal(s):
        total = 0
        for own, other, label in zip(s, teacher.tolist(), target, strict=True):
            p, q = [x.exp() / own.exp().sum() for x in own], softmax(other)
            for c in range(5):
                is_target = float(c == label)
                total = total - ((q[c] + is_target) ** exponent - is_target) * p[c].log()
        return total / len(target)

    def ours(s):
        return losses.logits.target_enhanced(s, teacher, torch.tensor(target), exponent)

    agree(ours, literal, numbers(2, 4, 5))


def test_ofa_at_exponent_one_is_kd_at_temperature_one_but_for_a_constant():
    student, teacher = numbers(2, 4, 5).requires_grad_(), numbers(3, 4, 5)
    ofa = losses.logits.target_enhanced(student, teacher, torch.tensor([0, 3, 4, 3]), 1.0)
    kd = losses.logits.kl_divergence(student, teacher)
    slopes = [torch.autograd.grad(loss, student)[0] for loss in (ofa, kd)]
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-12)
    p = teacher.softmax(1)
    torch.testing.assert_close((ofa - kd).detach(), -(p * p.log()).sum(1).mean(), rtol=1e-9, atol=1e-12)


def test_ofas_branches_halve_the_map_for_every_stage_to_come_and_classify_its_mean():
    setup = Setup("ofa", "offline", {"ofa": {"weight": 2.0, "logit_weight": 3.0}})
    student, teacher = views(setup)
    branches, target, total = setup.distiller.parts["branches"], setup.batch(0).target, 0.0
    for number, (branch, side) in enumerate(zip(branches, (2, 2, 4), strict=True), start=1):
        *body, classifier = branch
        features = student.features[f"all-stages.{number}"].detach()
        for layer in body:
            features = layer(features)
        assert features.shape[1:] == (48, side, side)  # as wide as the wider network's last stage
        logits = features.mean((2, 3)) @ classifier.weight.detach()[:, :, 0, 0].T + classifier.bias.detach()
        total += float(losses.logits.target_enhanced(logits, teacher.prediction, target, 1.0).detach())
    found = setup.losses(0).student
    assert float(found["branches"].detach()) == pytest.approx(2 * total, rel=1e-5)
    own = losses.logits.target_enhanced(student.prediction, teacher.prediction, target, 1.0)
    assert float(found["logits"].detach()) == pytest.approx(3 * float(own.detach()), rel=1e-5)


@pytest.mark.parametrize(("own_side", "side"), [(2, 2), (2, 4), (4, 2)])
def test_norms_features_are_a_loop_over_groups_after_max_pooling_the_larger_map(own_side, side):
    groups, width, small = 3, 2, min(own_side, side)
    teacher = numbers(5, 2, width, side, side)

    def cell(plane, y, x):
        step = plane.shape[0] // small
        return plane[y * step : (y + 1) * step, x * step : (x + 1) * step].max()

    def literal(s):
        total = 0
        for b in range(2):
            for n in range(groups):
                for c in range(width):
                    for y in range(small):
                        for x in range(small):
                            error = cell(s[b, n * width + c], y, x) - cell(teacher[b, c], y, x)
                            total = total + error**2 / (2 * width * small * small)
        return total

    agree(lambda s: losses.features.matched_groups(s, teacher), literal, numbers(4, 2, 6, own_side, own_side))


def literal_normalised(row, scale):
    mean = row.sum() / len(row)
    deviation = (sum((x - mean) ** 2 for x in row) / len(row) + 1e-7) ** 0.5
    return [scale * (x - mean) / deviation for x in row]


def test_norms_logits_have_one_deviation():
    weights = numbers(7, 4, 5)

    def literal(s):
        rows = (torch.stack(literal_normalised(row, 2.5)) for row in s)
        return sum((row * w).sum() for row, w in zip(rows, weights, strict=True))

    agree(lambda s: (losses.logits.layer_normalised(s, 2.5) * weights).sum(), literal, 3 * numbers(6, 4, 5) + 1)
    found = losses.logits.layer_normalised(numbers(6, 4, 5), 2.5)
    torch.testing.assert_close(found.std(1, unbiased=False), torch.full((4,), 2.5, dtype=torch.float64))


def normalised_rows(logits):
    return torch.stack([torch.stack(literal_normalised(row, 2.5)) for row in logits.detach()])


@pytest.mark.parametrize(
    ("progress", "share"), [(0.0, 0.1), (0.0417, 0.5), (0.0834, 1.0), (0.7499, 1.0), (0.7501, 0.5), (1.0, 0.1)]
)
def test_norms_terms_are_those_of_what_is_deployed(progress, share):
    own = {"groups": 3, "task_weight": 0.25, "weight": 2.0, "logit_weight": 0.7}
    setup = Setup("norm", "offline", {"norm": own})
    student, teacher = views(setup)
    last, target = student.features["last"].detach(), setup.batch(0).target

    def batch_norm(x):
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt()

    expand, reduce = (setup.distiller.parts[name][0].weight.detach()[:, :, 0, 0] for name in ("expand", "reduce"))
    expanded = batch_norm(torch.einsum("oc,bchw->bohw", expand, last))
    read = (last + batch_norm(torch.einsum("oc,bchw->bohw", reduce, expanded))).mean((2, 3))
    head = setup.distiller.student.head
    logits, fixed = normalised_rows(read @ head.weight.T + head.bias), normalised_rows(teacher.prediction)
    told = setup.losses(0, progress)
    found = {name: float(term.detach()) for name, term in told.student.items()}
    p, q = (torch.tensor([softmax(row, 4.0) for row in z.tolist()]) for z in (logits, fixed))
    groups = expanded.chunk(3, 1)
    error = sum(float((group - teacher.features["last"]).square().mean()) for group in groups)
    assert found == pytest.approx(
        {
            "task": -0.25 * sum(math.log(softmax(row)[y]) for row, y in zip(logits.tolist(), target, strict=True)) / 12,
            "features": 2 * share * error,
            "logits": 0.7 * 16 * float((q * (q / p).log()).sum() / 12),
        },
        rel=1e-4,
    )
    assert told.student_task == 0.0


def test_what_norm_deploys_is_what_its_task_loss_trains():
    setup = Setup("norm", "offline", {"norm": {"task_weight": 0.5}})
    setup.step(0)
    setup.distiller.eval()
    networks, batch = setup.distiller.networks, setup.batch(1)
    deployed = setup.distiller.deployed(networks)["student"].module.eval()
    with torch.no_grad():
        logits, plain = deployed(batch.student_input), networks["student"].module(batch.student_input)
    torch.testing.assert_close(logits.std(1, unbiased=False), torch.full((12,), 2.5), rtol=1e-4, atol=0)
    cross_entropy = torch.nn.functional.cross_entropy(logits, batch.target)
    assert float(setup.losses(1).student["task"].detach()) == pytest.approx(0.5 * float(cross_entropy), rel=1e-5)
    assert not torch.allclose(normalised_rows(plain), logits, atol=1e-2)
    added = sum(p.numel() for part in setup.distiller.parts.values() for p in part.parameters())
    own = sum(p.numel() for p in networks["student"].module.parameters())
    assert sum(p.numel() for p in deployed.parameters()) == own + added


def test_norm_declines_a_student_whose_classifier_reads_something_else():
    shapes = {"prediction": (2, 5), "last": (2, 6, 4, 4)}
    reason = registry.create("norm").supports(shapes, shapes | {"head": (5, 6)}, "offline")
    assert reason == (
        "the student's classifier is no linear layer on the mean of its last map, before which NORM adds layers"
    )
