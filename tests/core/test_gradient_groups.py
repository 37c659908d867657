"""Gradients of task and distillation kept apart: DOT's two momenta, DeepKD's three."""

import pytest
import torch

from adm_core import registry
from adm_core.errors import AdmError, Unsupported
from adm_core.settings import searches
from adm_core.testing.setup import Setup
from tests.core.resuming import recipe, whole_and_resumed
from tests.core.toy import trainer

DECAY, LR = 5e-4, 0.05


def run(method, settings=None, **changes):
    optimizer = {"name": "sgd", "lr": LR, "momentum": 0.9, "weight_decay": DECAY}
    return trainer(recipe(1, optimizer=optimizer, **changes), method, "offline", settings=settings)


def weights_after(t, steps):
    t.distiller.train()
    for batch in list(t.task.batches(0, 0))[:steps]:
        t.step(batch)
    return {name: p.detach().clone() for name, p in t.distiller.student.named_parameters()}


def literal(method, steps, momenta):
    """Steps of one momentum buffer per weight and loss, from the gradients of each loss by itself.

    A weight that one loss alone reaches has the mean of the momenta.
    """
    t = run(method)
    t.distiller.train()
    parameters = dict(t.distiller.student.named_parameters())
    buffers = {loss: {name: torch.zeros_like(p) for name, p in parameters.items()} for loss in momenta}
    for number, batch in enumerate(list(t.task.batches(0, 0))[:steps]):
        views, _ = t.distiller.views(batch)
        step = t.distiller.step(batch, number / 6, t.generator, views)
        found = t.distiller.method.losses(views["student"], views["teacher"], step)
        each = {"task": found.student_task * views["student"].task_loss.mean(), **found.student}
        grads = {
            k: torch.autograd.grad(each[k], list(parameters.values()), retain_graph=True, allow_unused=True)
            for k in momenta
        }
        with torch.no_grad():
            for index, (name, p) in enumerate(parameters.items()):
                reached = [loss for loss in momenta if grads[loss][index] is not None]
                for loss in reached:
                    momentum = momenta[loss] if len(reached) > 1 else sum(momenta.values()) / len(momenta)
                    decay = DECAY * p if loss == "task" else 0.0
                    buffers[loss][name] = momentum * buffers[loss][name] + grads[loss][index] + decay
                p -= LR * sum(buffers[loss][name] for loss in reached)
    return {name: p.detach().clone() for name, p in parameters.items()}


def assert_close(ours, theirs, **tolerance):
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], **tolerance)


def test_five_steps_are_the_literal_ones():
    found = weights_after(run("kd+dot", {"dot": {"delta": 0.075}}), 5)
    assert_close(found, literal("kd", 5, {"task": 0.825, "kd": 0.975}), rtol=1e-4, atol=1e-5)
    plain = weights_after(run("kd"), 5)
    assert max(float((found[name] - plain[name]).abs().max()) for name in found) > 1e-3


def test_a_weight_that_the_distillation_does_not_reach_keeps_the_recipes_momentum():
    """mdistiller's code; the classifier, for attention maps."""
    found = weights_after(run("at+dot", {"dot": {"delta": 0.075}}), 5)
    assert_close(found, literal("at", 5, {"task": 0.825, "attention": 0.975}), rtol=1e-4, atol=1e-5)


def test_no_difference_of_momenta_is_plain_sgd():
    assert_close(
        weights_after(run("kd+dot", {"dot": {"delta": 0.0}}), 5), weights_after(run("kd"), 5), rtol=1e-4, atol=1e-5
    )


def test_parts_of_a_batch_add_up_within_each_group():
    """Two equal halves give the gradients of either, so one step of both is a step of one half."""
    results = []
    for accumulate in (1, 2):
        t = run("kd+dot", accumulate=accumulate)
        t.distiller.eval()  # normalisation by fixed statistics
        batch = next(t.task.batches(0, 0))
        t.step(batch)
        results.append({name: p.detach().clone() for name, p in t.distiller.student.named_parameters()})
    assert_close(results[0], results[1], rtol=1e-4, atol=1e-6)


def test_alone_it_is_no_distillation():
    dot = weights_after(run("dot", {"dot": {"delta": 0.075}}), 5)
    optimizer = {"name": "sgd", "lr": LR, "momentum": 0.9, "weight_decay": DECAY}
    none = weights_after(trainer(recipe(1, optimizer=optimizer), "none", "offline"), 5)
    assert_close(dot, none, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"optimizer": {"name": "adamw", "lr": 0.01}}, "'kd.dot' treats momenta apart, .* not adamw"),
        ({"optimizer": {"name": "sgd", "lr": 0.1, "nesterov": True}}, "'kd.dot' treats momenta apart, .* Nesterov"),
        ({"clip_norm": 1.0}, "'kd.dot' keeps gradients apart, which clip_norm"),
    ],
)
def test_where_it_is_not_defined_it_is_refused_with_a_reason(changes, reason):
    with pytest.raises(Unsupported, match=reason):
        trainer(recipe(**changes), "kd+dot", "offline")


def test_a_momentum_of_one_is_an_error():
    with pytest.raises(AdmError, match=r"momenta \{'task': 0.8, 'distillation': 1.0\} are not all in \[0, 1\)"):
        trainer(recipe(), "kd+dot", "offline", settings={"dot": {"delta": 0.1}})


def test_both_momenta_are_in_the_checkpoint(tmp_path, monkeypatch):
    whole, trained = whole_and_resumed(tmp_path, monkeypatch, "kd+dot", "offline")
    state = whole.optimizers[0].state[whole.distiller.student.head.weight]
    assert set(state) == {"task", "distillation"}
    assert trained.curves["train.student.task"][-1] < trained.curves["train.student.task"][0]


def test_a_group_is_what_its_losses_alone_give():
    outcome = Setup("kd+dot", "offline", {}).outcome(0)
    assert set(outcome.groups) == {"task", "distillation"}
    torch.testing.assert_close(sum(outcome.groups.values()), outcome.total)
    torch.testing.assert_close(outcome.groups["distillation"].detach(), outcome.terms["student.kd.kd"])


def test_five_steps_of_deepkd_are_the_literal_ones():
    found = weights_after(run("deepkd"), 5)
    momenta = {"task": 0.975, "target": 0.825, "others": 0.975}
    assert_close(found, literal("deepkd", 5, momenta), rtol=1e-4, atol=1e-5)
    other = literal("deepkd", 5, momenta | {"target": 0.975})
    assert max(float((found[name] - other[name]).abs().max()) for name in found) > 1e-3


def test_a_term_that_is_a_group_of_its_own_is_so_in_a_composition():
    outcome = Setup("nkd+deepkd", "offline", {"deepkd": {"task_weight": 1.0}}).outcome(0)
    assert set(outcome.groups) == {"task", "deepkd.target", "deepkd.others", "distillation"}
    torch.testing.assert_close(sum(outcome.groups.values()), outcome.total)
    torch.testing.assert_close(outcome.groups["deepkd.target"].detach(), outcome.terms["student.deepkd.target"])
    rest = sum(term for name, term in outcome.terms.items() if name.startswith("student.nkd."))
    torch.testing.assert_close(outcome.groups["distillation"].detach(), rest)


def test_the_terms_of_other_parts_keep_the_recipes_momentum():
    bench = Setup("nkd+deepkd", "offline", {"deepkd": {"task_weight": 1.0}})
    expected = {"task": 0.975, "distillation": 0.9, "deepkd.target": 0.825, "deepkd.others": 0.975}
    assert bench.optimizers[0].momenta == pytest.approx(expected)


def test_the_released_deepkd_moves_the_task_with_the_target_classs_momentum():
    released = registry.create("deepkd", {"deepkd": {"form": "as-released"}}).momentum()
    assert released == {"task": -0.075, "target": -0.075, "others": 0.075}


APART = [name for name in registry.names() if registry.create(name).needs.gradient_groups]


@pytest.mark.parametrize("name", APART)
def test_searched_changes_leave_the_usual_momentum_below_one(name):
    for key, search in searches(registry.get(name).Settings).items():
        for end in (search.low, search.high):
            assert run(f"kd+{name}" if name == "dot" else name, {name: {key: end}}).optimizers[0].momenta
