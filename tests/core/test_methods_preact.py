"""OFD and AB: their losses against literal loops and independent libraries, their margins, their phases."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from torchdistill.losses.mid_level import AltActTransferLoss

from adm_core import registry
from adm_core.errors import Unsupported
from adm_core.losses import preact
from adm_core.recipe import Optimizer, Recipe
from adm_core.testing.networks import tiny_facts
from adm_core.testing.setup import Setup
from tests.core.toy import trainer, weights


def maps(seed, *shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def valid_positions():
    """About two thirds of each image, and nothing of the last one."""
    valid = torch.rand(3, 3, 4, generator=torch.Generator().manual_seed(7)) < 0.7
    valid[-1] = False
    return valid


MARGIN = torch.tensor([-0.9, -0.2, 0.0, -2.0, -0.5])


def test_margins_are_scipys_means_of_truncated_normals():
    weight = torch.tensor([1.0, -0.5, 2.0, 0.3, 1.0, 0.05])
    bias = torch.tensor([0.0, 0.4, -3.0, 0.9, 3.0, -1.0])
    mu, sigma = bias.double().numpy(), weight.abs().double().numpy()
    expected = scipy.stats.truncnorm(-np.inf, -mu / sigma, loc=mu, scale=sigma).mean()
    found = preact.negative_mean(bias, weight)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert bool((found < 0).all())


def test_a_channel_that_is_hardly_ever_negative_gets_three_deviations():
    found = preact.negative_mean(torch.tensor([3.2, 3.0, 1.0, -1.0, 0.0]), torch.tensor([1.0, -1.0, 0.0, 0.0, 0.0]))
    assert float(found[0]) == -3.0  # P(x < 0) = 0.0007
    assert float(found[1]) != -3.0  # P(x < 0) = 0.0013
    assert found[2:].tolist() == [0.0, -1.0, 0.0]


def literal_partial(student, teacher, margin, valid):
    """The reference's three cases, number by number."""
    total = 0.0
    for b in range(len(student)):
        for y, x in valid[b].nonzero().tolist():
            for c in range(student.shape[1]):
                s, t, m = (float(v) for v in (student[b, c, y, x], teacher[b, c, y, x], margin[c]))
                if s > m and t <= m:
                    total += (s - m) ** 2
                elif (s > t and m < t <= 0) or t > 0:
                    total += (s - t) ** 2
    return total / len(student)


@pytest.mark.parametrize("masked", [True, False])
def test_the_partial_distance_is_the_literal_loop(masked):
    student, teacher = maps(0, 3, 5, 3, 4), maps(1, 3, 5, 3, 4)
    valid = valid_positions() if masked else torch.ones(3, 3, 4, dtype=torch.bool)
    ours = preact.partial_l2(student, teacher, MARGIN, valid if masked else None)
    assert float(ours) == pytest.approx(literal_partial(student, teacher, MARGIN, valid), rel=1e-5)


@pytest.mark.parametrize("margin", [0.5, 1.0])
def test_the_alternative_loss_is_torchdistills(margin):
    student, teacher = maps(0, 3, 5, 3, 4), maps(1, 3, 5, 3, 4)
    pair = {io: {"io": "output", "path": "map"} for io in ("student", "teacher")}
    theirs = AltActTransferLoss({"map": pair | {"weight": 1}}, margin, reduction="mean")
    expected = theirs({"map": {"output": student}}, {"map": {"output": teacher}})
    assert float(preact.alternative_l2(student, teacher, margin)) == pytest.approx(float(expected), rel=1e-5)


def test_void_positions_count_for_nothing_and_get_no_gradient():
    valid, teacher = valid_positions(), maps(1, 3, 5, 3, 4)
    other = torch.where(valid[:, None], maps(0, 3, 5, 3, 4), maps(9, 3, 5, 3, 4)).requires_grad_()
    for loss in (
        lambda s: preact.partial_l2(s, teacher, MARGIN, valid),
        lambda s: preact.alternative_l2(s, teacher, 1.0, valid),
    ):
        found = loss(other)
        assert float(found.detach()) == float(loss(maps(0, 3, 5, 3, 4)))
        (gradient,) = torch.autograd.grad(found, other)
        assert float((gradient * ~valid[:, None]).abs().sum()) == 0.0 < float(gradient.abs().sum())


def test_gradients_are_those_of_finite_differences():
    student, teacher = (maps(n, 3, 5, 3, 4, dtype=torch.float64) for n in range(2))
    for loss in (
        lambda s: preact.partial_l2(s, teacher, MARGIN.double()),
        lambda s: preact.alternative_l2(s, teacher, 1.0),
    ):
        assert torch.autograd.gradcheck(loss, student.requires_grad_())


@pytest.mark.parametrize(("method", "distance"), [("ofd", preact.partial_l2), ("ab", preact.alternative_l2)])
def test_stages_count_half_as_much_as_the_next(method, distance):
    bench = Setup(method, "offline", {method: {"weight": 1.0}})
    views = bench.distiller.views(bench.batch(0))[0]
    (term,) = bench.losses(0, progress=0.01).student.values()
    total = 0.0
    for number, connector in enumerate(bench.distiller.parts["connectors"], start=1):
        ours, theirs = (views[role].features[f"all-stages.preact.{number}"] for role in ("student", "teacher"))
        last = connector.margin if method == "ofd" else 1.0
        total += float(distance(connector(ours), theirs, last).detach()) / 2 ** (3 - number)
    assert float(term.detach()) == pytest.approx(total, rel=1e-5)


def test_margins_come_from_the_teachers_normalisation_and_last_in_checkpoints():
    bench = Setup("ofd", "offline", {})
    for number, connector in enumerate(bench.distiller.parts["connectors"]):
        norm = next(m for m in bench.distiller.teacher.stages[number][1:] if isinstance(m, torch.nn.BatchNorm2d))
        assert torch.equal(connector.margin, preact.negative_mean(norm.bias, norm.weight))
    assert "parts.connectors.0.margin" in bench.distiller.state_dict()


def test_ofd_declines_a_teacher_without_normalisation():
    shapes = {"prediction": (2, 5), "all-stages.preact.1": (2, 6, 4, 4)}
    with pytest.raises(Unsupported, match=r"all-stages\.preact\.1 has none"):
        registry.create("ofd").build(shapes, shapes, tiny_facts())


def test_ofd_brings_the_student_to_the_teachers_responses():
    bench = Setup("ofd", "offline", {"ofd": {"weight": 0.01}})
    first, *_, last = [float(bench.losses(0).student["preact"].detach()) for _ in range(30) if bench.step(0)]
    assert last < 0.7 * first


def recipe(**changes):
    return Recipe(epochs=2, batch_size=16, optimizer=Optimizer(name="sgd", lr=0.02, weight_decay=0.01), **changes)


def agreement(run):
    """Share of neurons that respond where the teacher's do, all stages alike, through the connectors."""
    run.distiller.eval()
    batch = next(iter(run.task.batches(9, 0)))
    with torch.no_grad():
        views = run.distiller.views(batch)[0]
        shares = [
            ((connector(ours) > 0) == (theirs > 0)).float().mean()
            for ours, theirs, connector in zip(
                *(views[role].maps(["all-stages.preact"]) for role in ("student", "teacher")),
                run.distiller.parts["connectors"],
                strict=True,
            )
        ]
    run.distiller.train()
    return float(sum(shares)) / len(shares)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_ab_trains_body_and_connectors_first_and_labels_then(name):
    """Neither weight decay nor momentum moves what rests."""
    rule = Optimizer(name=name, lr=0.1 if name == "sgd" else 0.005, weight_decay=0.01)
    run = trainer(Recipe(epochs=2, batch_size=16, optimizer=rule), "ab", "offline", settings={"ab": {"share": 0.5}})
    head, connectors = run.distiller.student.head, run.distiller.parts["connectors"]
    state, resting = run.optimizers[0].state, [p.detach().clone() for p in head.parameters()]
    before, body = agreement(run), run.distiller.student.stages[0][1].weight
    for batch in run.task.batches(0, 0):
        run.step(batch)
        assert all(torch.equal(p, old) for p, old in zip(head.parameters(), resting, strict=True))
        assert not any(value.any() for p in head.parameters() for value in state.get(p, {}).values())
    assert agreement(run) > before + 0.05

    resting = [value.clone() for value in connectors.state_dict().values()]
    momenta = [v.clone() for p in connectors.parameters() for v in state[p].values()]
    learnt, moved = head.weight.detach().clone(), body.detach().clone()
    assert resting and momenta
    for batch in run.task.batches(1, 0):
        run.step(batch)
    assert all(torch.equal(v, old) for v, old in zip(connectors.state_dict().values(), resting, strict=True))
    now = [v for p in connectors.parameters() for v in state[p].values()]
    assert all(torch.equal(v, old) for v, old in zip(now, momenta, strict=True))
    assert not torch.equal(head.weight, learnt) and not torch.equal(body, moved)


@pytest.mark.parametrize(("method", "share"), [("ab", 0.25), ("ab", 0.5), ("ab", 0.7), ("kd+ab", 0.7)])
def test_a_training_that_is_cut_off_around_the_border_of_phases_resumes_to_the_same_weights(tmp_path, method, share):
    """Cut after the 6th of 12 steps; the border lies before, there, or after."""
    settings, file = {"ab": {"share": share}}, tmp_path / "c.pt"
    whole = trainer(recipe(), method, "offline", settings=settings)
    whole.run()
    options = {"settings": settings, "checkpoint_file": file, "checkpoint_seconds": 0.0}
    first = trainer(recipe(), method, "offline", **options)
    first.distiller.train()
    for batch in first.task.batches(0, 0):
        first.step(batch)
    first.end_epoch(1)
    again = trainer(recipe(), method, "offline", settings=settings, checkpoint_file=file)
    again.run()
    expected, found = weights(whole), weights(again)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_in_its_first_phase_ab_acts_alone_and_kd_afterwards():
    bench = Setup("kd+ab", "offline", {})
    first, then = bench.losses(progress=0.05), bench.losses(progress=0.5)
    assert (list(first.student), first.student_task) == (["ab.boundary"], 0.0)
    assert (list(then.student), then.student_task) == (["kd.kd"], 0.1)


def test_ab_needs_the_boundary_alone_not_the_size_of_a_response():
    student, teacher = maps(0, 3, 5, 3, 4), maps(1, 3, 5, 3, 4)
    far = preact.alternative_l2(student, 10 * teacher, 1.0)
    assert float(far) == float(preact.alternative_l2(student, teacher, 1.0))
    assert math.isclose(float(preact.alternative_l2(2 * teacher.sign(), teacher, 1.0)), 0.0)
    assert float(F.mse_loss(2 * teacher.sign(), teacher)) > 0


def test_a_classifier_of_pixels_rests_in_the_first_phase_too():
    bench = Setup("ab", "offline", {}, form="pixels")
    head = bench.distiller.student.head
    resting = head.weight.detach().clone()
    bench.step(0, progress=0.05)
    assert torch.equal(head.weight, resting)
    assert not any(value.any() for value in bench.optimizers[0].state[head.weight].values())
    bench.step(1, progress=0.5)
    assert not torch.equal(head.weight, resting)
