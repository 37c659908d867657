"""A loss of weight 0 trains nothing: not by gradients of zeros either; and a loss that nobody reads is not computed."""

from dataclasses import replace

import pytest
import torch

from adm_core import registry
from adm_core.errors import AdmError
from adm_core.method import Losses, Method, MethodCard, Needs, View
from adm_core.optimizer import make_optimizers
from adm_core.outcome import collect
from adm_core.recipe import Recipe
from tests.core.toy import ToyTask, trainer, weights

OPTIMIZERS = {
    "sgd": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.1},
    "nesterov": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True},
    "adamw": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
}


class BodyOnly(Method):
    """Trains the student's second stage; the task has a weight from ``begins`` on."""

    card = MethodCard("body-only", "Body only", "", 2026, frozenset({"offline", "online"}), "features")
    needs = Needs(taps=("stage2",))
    begins = 2.0

    def losses(self, student, teacher, step):
        weight = float(step.progress >= self.begins)
        return Losses(student={"size": student.features["stage2"].pow(2).mean()}, student_task=weight)


class Grouped(BodyOnly):
    """The same by an optimiser that keeps groups of gradients apart."""

    needs = Needs(taps=("stage2",), gradient_groups=True)

    def momentum(self):
        return {"task": 0.0, "distillation": 0.05}


def recipe(name, **changes):
    return Recipe.model_validate({"epochs": 2, "batch_size": 16, "optimizer": OPTIMIZERS[name]} | changes)


def behind(named):
    """What only the task's loss reaches: all behind the second stage."""
    return {name: value for name, value in named.items() if name.startswith(("student.stages.2.", "student.head"))
            and "running" not in name and "tracked" not in name}  # fmt: skip


@pytest.mark.parametrize(
    ("optimizer", "method"), [("sgd", BodyOnly), ("nesterov", BodyOnly), ("adamw", BodyOnly), ("sgd", Grouped)]
)
def test_what_only_a_loss_of_weight_0_reaches_stays_as_it_is(monkeypatch, optimizer, method):
    monkeypatch.setitem(registry._known, "body-only", method)
    run = trainer(recipe(optimizer, accumulate=2), "body-only", "offline")
    start = weights(run)
    run.run()
    now = weights(run)
    assert len(behind(start)) >= 5
    assert [name for name, value in behind(start).items() if not torch.equal(value, now[name])] == []
    assert not torch.equal(start["student.stages.0.1.weight"], now["student.stages.0.1.weight"])
    assert all(value > 0 for value in run.progress.curves["train.student.task"])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_gets_its_first_gradient_late_begins_then(monkeypatch, optimizer):
    """Against torch's plain optimiser, whose state begins with each weight's first gradient."""
    monkeypatch.setitem(registry._known, "body-only", BodyOnly)
    monkeypatch.setattr(BodyOnly, "begins", 0.5)
    run, plain = (trainer(recipe(optimizer), "body-only", "offline", seed=3) for _ in range(2))
    options = {"lr": 0.05, "momentum": 0.9, "nesterov": optimizer == "nesterov"}
    kind = torch.optim.AdamW if optimizer == "adamw" else torch.optim.SGD
    groups = [dict(group) for group in plain.optimizers[0].param_groups]
    groups = [{key: group[key] for key in ("params", "lr", "weight_decay")} for group in groups]
    plain.optimizers = [kind(groups, **({} if optimizer == "adamw" else options), foreach=False)]
    run.run()
    plain.run()
    for name, value in behind(weights(run)).items():
        torch.testing.assert_close(weights(plain)[name], value, rtol=1e-5, atol=1e-6)


def test_every_optimiser_forgets_gradients_rather_than_zeroing_them():
    for name in OPTIMIZERS:
        run = trainer(recipe(name), "dml+adm", "online")
        run.step(next(iter(run.task.batches(0, 0))))
        for optimizer in (*run.optimizers, *make_optimizers(run.distiller, recipe(name))):
            assert all(p.grad is None for group in optimizer.param_groups for p in group["params"])


def test_a_loss_of_weight_0_is_told_and_reaches_the_total_neither_as_nan_nor_as_a_gradient():
    w = torch.ones(2, requires_grad=True)
    nan, term = w[0] * float("nan"), 3 * w[1]
    losses = Losses(student={"term": term}, student_task=0.0)
    found = collect("m", losses, {"student": nan}, {"student": nan}, apart=("task", "distillation"))
    assert found.total.item() == 3.0 and list(found.groups) == ["distillation"]
    assert found.terms["student.task"].isnan() and found.terms["student.auxiliary"].isnan()
    found.total.backward()
    assert w.grad.tolist() == [0.0, 3.0]


def test_the_loss_of_auxiliary_predictions_may_stay_where_another_takes_the_tasks_place():
    task, auxiliary, term = (torch.full((), value, requires_grad=True) for value in (1.0, 10.0, 100.0))
    for weight, total in ((None, 100.0), (1.0, 110.0), (0.5, 105.0)):
        losses = Losses(student={"term": term}, student_task=0.0, student_auxiliary=weight)
        assert collect("m", losses, {"student": task}, {"student": auxiliary}).total.item() == total


@pytest.mark.parametrize("name", ["task", "auxiliary"])
def test_a_term_that_would_stand_in_the_place_of_the_networks_own_is_refused(name):
    loss = torch.ones((), requires_grad=True)
    with pytest.raises(AdmError, match=f"^method 'm': a term of its own is called '{name}', as the student's is"):
        collect("m", Losses(student={name: loss}), {"student": loss}, {"student": loss})
    instead = collect("m", Losses(student={name: 2 * loss}, student_task=0.0), {"student": loss}, {"student": loss})
    assert instead.total.item() == instead.terms[f"student.{name}"].item() == 2.0


def test_a_step_in_which_nothing_trains_is_an_error():
    loss = torch.ones((), requires_grad=True)
    with pytest.raises(AdmError, match=r"^method 'm': nothing to train on in this step: all task losses have weight 0"):
        collect("m", Losses(student_task=0.0), {"student": loss}, {})


@pytest.mark.parametrize(("method", "regime", "of_teacher"), [("kd+adm", "offline", 0), ("dml", "online", 12)])
def test_a_frozen_teachers_loss_is_not_computed_where_nobody_reads_it(method, regime, of_teacher):
    class Counting(ToyTask):
        losses = 0

        def task_loss(self, prediction, batch):
            self.losses += 1
            return super().task_loss(prediction, batch)

    run = trainer(recipe("sgd"), method, regime, Counting())
    run.run()
    assert run.task.losses == 12 + of_teacher


def test_a_view_computes_a_loss_that_is_given_as_a_function_once_and_when_it_is_read():
    made, prediction = [], torch.zeros(2, 3, requires_grad=True)

    def loss():
        made.append(1)
        return prediction.sum(1)

    view = View(prediction, "class_logits", {}, loss, None)
    fixed = view.detached()
    assert made == []
    assert not fixed.task_loss.requires_grad and torch.equal(fixed.task_loss, torch.zeros(2))
    assert view.task_loss.requires_grad and view.task_loss is view.task_loss and made == [1]
    assert replace(view, features={"last": prediction}).task_loss is view.task_loss
    given = torch.ones(2)
    assert View(prediction, "class_logits", {}, task_loss=given).task_loss is given
    with pytest.raises(TypeError, match="task_loss"):
        View(prediction, "class_logits", {})
