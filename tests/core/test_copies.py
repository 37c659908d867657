"""Copies of networks that show views, and Mean Teacher, which teaches a student by the average of its own weights."""

import copy
import math

import pytest
import torch

from adm_core import registry
from adm_core.losses import logits
from adm_core.method import Losses, Method, MethodCard, Needs
from adm_core.testing.networks import tiny_batch
from adm_core.testing.setup import Setup
from tests.core.resuming import recipe, whole_and_resumed
from tests.core.toy import trainer


class Looking(Method):
    """Keeps what its copies show."""

    card = MethodCard("looking", "Looking", "", 2026, frozenset({"offline"}), "baseline")
    needs = Needs(taps=("stage2",), views="own", teacher=False, copies={"before": "student", "fixed": "teacher"})
    seen = None

    def losses(self, student, teacher, step):
        self.seen = step
        return Losses(student={"gap": (student.features["stage2"] - step.copies["before"].features["stage2"]).sum()})


@pytest.fixture
def looking(monkeypatch):
    monkeypatch.setitem(registry._known, "looking", Looking)
    return Setup("looking", "offline", {})


def test_a_copy_shows_taps_as_its_network_does_in_evaluation_without_gradients(looking):
    d, batch = looking.distiller, looking.batch(0)
    d.student.eval()
    expected = d.showing.show(d.networks["student"], batch.teacher_input, batch, False, False)[0]
    d.student.train()
    d(batch, 0.5, torch.Generator())
    seen = looking.method.seen.copies["before"]
    assert torch.equal(seen.prediction, expected.prediction)
    assert torch.equal(seen.features["stage2"], expected.features["stage2"])
    assert torch.equal(seen.task_loss, expected.task_loss)
    assert not seen.prediction.requires_grad and not seen.features["stage2"].requires_grad


def test_a_copy_sees_the_teachers_augmentation_where_views_are_own(looking):
    inputs = []
    looking.distiller.parts["before"].network.register_forward_hook(lambda _m, given, _o: inputs.append(given[0]))
    batch = looking.batch(0)
    assert not torch.equal(batch.student_input, batch.teacher_input)
    looking.distiller(batch, 0.5, torch.Generator())
    assert len(inputs) == 1 and inputs[0] is batch.teacher_input


def test_a_finer_copy_is_shown_at_the_size_of_the_views(monkeypatch):
    monkeypatch.setitem(registry._known, "looking", Looking)
    dense = Setup("looking", "offline", {}, form="pixels")
    dense.distiller.parts["fixed"].network.register_forward_hook(
        lambda _m, _given, out: out.repeat_interleave(2, 2).repeat_interleave(2, 3)
    )
    dense.distiller(dense.batch(0), 0.5, torch.Generator())
    seen = dense.method.seen
    assert seen.copies["fixed"].prediction.shape == seen.views["student"].prediction.shape


def test_a_copy_that_is_not_looked_at_does_not_run(looking):
    runs = []
    looking.distiller.parts["fixed"].network.register_forward_hook(lambda *_: runs.append("fixed"))
    looking.step(0)
    assert runs == []
    assert looking.method.seen.copies["fixed"] is looking.method.seen.copies["fixed"] and runs == ["fixed"]


# --- Mean Teacher ---


def bench(form="images", **settings):
    return Setup("ema-teacher", "offline", {"ema-teacher": settings}, form=form)


@pytest.mark.parametrize("form", ["images", "pixels", "denoisers"])
@pytest.mark.parametrize("distance", ["mse", "kl"])
def test_consistency_is_the_distance_to_the_average(form, distance):
    setup = bench(form, distance=distance, weight=2.0)
    for seed in range(3):
        setup.step(seed)
    d, batch = setup.distiller, setup.batch(5)
    views = d.views(batch)[0]
    own = views["student"].prediction.detach()
    with torch.no_grad():
        other = setup.method.parts["average"].network(batch.teacher_input, *batch.conditions)
    if form == "denoisers":
        each = (own - other).pow(2).mean(1)
    elif distance == "mse":
        each = (own.softmax(1) - other.softmax(1)).pow(2).mean(1)
    else:
        p = other.softmax(1)
        each = (p * (p.log() - own.softmax(1).log())).sum(1)
    if form == "pixels":
        each = each[batch.mask[:, ::2, ::2]]
    term = setup.losses_of(views, batch).student["consistency"]
    assert float(term.detach()) == pytest.approx(2 * float(each.mean()), rel=1e-4) and float(term.detach()) > 0


@pytest.mark.parametrize(("progress", "share"), [(0.0, math.exp(-5)), (2 / 15, math.exp(-5 / 4)), (0.6, 1.0)])
def test_its_weight_rises_as_the_papers(progress, share):
    full, now = (bench(ramp=ramp).losses(0, progress).student["consistency"] for ramp in (0.0, 4 / 15))
    assert float(now.detach()) == pytest.approx(share * float(full.detach()), rel=1e-5)


def test_mse_of_equal_predictions_is_nothing_and_of_sure_opposites_two_of_k():
    sure = 50 * torch.eye(4)
    assert float(logits.squared_probabilities(sure, sure)) == 0.0
    assert float(logits.squared_probabilities(sure, sure.roll(1, 0))) == pytest.approx(2 / 4)


def test_the_average_follows_by_the_papers_schedule():
    """α of steps 1, 2, 3, ... is 1/2, 2/3, 3/4, ... up to the decay: at first the plain mean of the weights so far."""
    setup = bench(decay=0.75)
    student, average = setup.distiller.student.head.weight, setup.method.parts["average"].network.head.weight
    expected = student.detach().clone()
    for step, alpha in enumerate((1 / 2, 2 / 3, 3 / 4, 3 / 4, 3 / 4), start=1):
        setup.step(step)
        expected = alpha * expected + (1 - alpha) * student.detach()
        torch.testing.assert_close(average, expected)


def test_the_average_runs_in_training_mode_with_statistics_of_its_own():
    """As the authors' ``ema_model`` does: what a network of its weights makes of its own inputs."""
    setup = bench(decay=0.75)
    average, expected = average_of(setup), copy.deepcopy(average_of(setup))
    for step in range(4):
        seen = setup.batch(step)
        with torch.no_grad():
            expected.train()(seen.teacher_input, *seen.conditions)
        setup.step(step)
        expected.load_state_dict(dict(average.named_parameters()), strict=False)
    own, students = (dict(network.named_buffers()) for network in (average, setup.distiller.student))
    assert average.training and own["stages.0.2.running_mean"].ne(students["stages.0.2.running_mean"]).any()
    for name, buffer in expected.named_buffers():
        assert torch.equal(own[name], buffer)


def average_of(setup):
    return setup.method.parts["average"].network


def test_the_average_is_what_is_deployed_and_trains_to_be_right(tmp_path, monkeypatch):
    settings = {"ema-teacher": {"decay": 0.9}}
    run, trained = whole_and_resumed(tmp_path, monkeypatch, "ema-teacher", "offline", settings, epochs=8)
    average = run.distiller.parts["average"]
    assert trained.networks["student"].module is average.network
    assert average.updates == run.progress.step == 48
    assert trained.curves["validation.student.top1"][-1] > 60
    assert not torch.equal(average.network.head.weight, run.distiller.student.head.weight)


def test_best_validation_keeps_the_averages_best_weights():
    run = trainer(recipe(4, selection="best-validation"), "ema-teacher", "offline")
    trained = run.run()
    best = max(trained.curves["validation.student.top1"])
    assert run.task.evaluate(trained.networks, "validation")["student"]["top1"] == best


def test_a_frozen_teacher_is_not_run():
    setup, runs = bench(), []
    setup.distiller.networks["teacher"].module.register_forward_hook(lambda *_: runs.append("teacher"))
    setup.step(0)
    assert runs == [] and set(setup.distiller.views(tiny_batch())[0]) == {"student"}
