"""Gradients of task and distillation kept apart: DOT's two momenta."""

import pytest
import torch

from adm_core.errors import AdmError, Unsupported
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


def literal_dot(steps, delta):
    """Five steps of two momentum buffers per weight, from the gradients of both losses by themselves."""
    t = run("kd")
    t.distiller.train()
    parameters = dict(t.distiller.student.named_parameters())
    task_buffer, kd_buffer = ({name: torch.zeros_like(p) for name, p in parameters.items()} for _ in range(2))
    for number, batch in enumerate(list(t.task.batches(0, 0))[:steps]):
        views, _ = t.distiller.views(batch)
        step = t.distiller.step(batch, number / 6, t.generator, views)
        found = t.distiller.method.losses(views["student"], views["teacher"], step)
        task = found.student_task * views["student"].task_loss.mean()
        g_task = torch.autograd.grad(task, list(parameters.values()), retain_graph=True)
        g_kd = torch.autograd.grad(found.student["kd"], list(parameters.values()))
        with torch.no_grad():
            for (name, p), a, b in zip(parameters.items(), g_task, g_kd, strict=True):
                task_buffer[name] = (0.9 - delta) * task_buffer[name] + a + DECAY * p
                kd_buffer[name] = (0.9 + delta) * kd_buffer[name] + b
                p -= LR * (task_buffer[name] + kd_buffer[name])
    return {name: p.detach().clone() for name, p in parameters.items()}


def assert_close(ours, theirs, **tolerance):
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], **tolerance)


def test_five_steps_are_the_literal_ones():
    found = weights_after(run("kd+dot", {"dot": {"delta": 0.075}}), 5)
    assert_close(found, literal_dot(5, 0.075), rtol=1e-4, atol=1e-5)
    plain = weights_after(run("kd"), 5)
    assert max(float((found[name] - plain[name]).abs().max()) for name in found) > 1e-3


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


def test_alone_it_is_no_distillation_with_less_momentum():
    dot = weights_after(run("dot", {"dot": {"delta": 0.075}}), 5)
    optimizer = {"name": "sgd", "lr": LR, "momentum": 0.825, "weight_decay": DECAY}
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
