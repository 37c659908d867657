"""Every network draws from streams of its own: what trains beside it moves no bit of it, dropout included."""

import copy

import pytest
import torch
import torch.nn.functional as F

from adm_core import registry
from adm_core.batch import Batch
from adm_core.method import Losses, Method, MethodCard, Needs
from adm_core.recipe import Recipe
from adm_core.seeds import derive, sow
from tests.core.resuming import whole_and_resumed
from tests.core.toy import ToyTask, trainer

SGD = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.001}


def recipe(**changes):
    return Recipe.model_validate({"epochs": 2, "batch_size": 16, "optimizer": SGD} | changes)


def differing(ours, theirs, buffers=True):
    """Names of the weights, and of the buffers where they count, that two networks do not have alike to the bit."""
    ours, theirs = ours.state_dict(keep_vars=True), theirs.state_dict(keep_vars=True)
    assert ours.keys() == theirs.keys()
    return [name for name, t in ours.items() if (buffers or t.requires_grad) and not torch.equal(t, theirs[name])]


def trained_literally(network, role, parts):
    """The toy task's training of one network written out, two epochs of it with dropout."""
    network, task = copy.deepcopy(network).train(), ToyTask()
    fused = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=0.001, fused=True)
    for step in range(12):
        batch = next(iter(task.batches(step // 6, step % 6)))
        for part, (x, y) in enumerate(zip(batch.student_input.chunk(parts), batch.target.chunk(parts), strict=True)):
            torch.manual_seed(derive(derive(derive(0, "method", step), part), role))
            (F.cross_entropy(network(x), y) / parts).backward()
        fused.step()
        fused.zero_grad()
    return network


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(("regime", "roles"), [("online", ("student", "teacher")), ("alone", ("student",))])
def test_none_trains_every_network_as_if_alone(regime, roles, parts):
    """Of a stream by (seed, role, step, micro-batch); the lone student's is that of the role ``student``."""
    run = trainer(recipe(accumulate=parts), "none", regime, dropout=0.4)
    start = {role: copy.deepcopy(run.distiller.networks[role].module) for role in roles}
    run.run()
    for role in roles:
        expected = trained_literally(start[role], role, parts)
        assert differing(run.distiller.networks[role].module, expected) == []
    assert differing(run.distiller.student, trained_literally(start["student"], "somebody", parts)) != []


class Draws(Method):
    """Lets nothing reach the networks, but draws from torch's global generator wherever it is called."""

    card = MethodCard("draws", "Draws", "", 2026, frozenset({"offline", "online", "peers"}), "baseline")
    # Statistics of normalisation, which training does not read, are moved by a second view.
    needs = Needs(extra_view="strong", copies={"average": "student"}, peers=2)
    drawn = ()

    def draw(self):
        self.drawn = (*self.drawn, float(torch.rand(())))

    def inputs(self, batch, progress, generator):
        self.draw()
        return batch

    def losses(self, student, teacher, step):
        self.draw()
        step.copies["average"].prediction.sum()
        return Losses()

    def after_step(self):
        self.draw()


class StrongTask(ToyTask):
    """The toy task with a stronger view of every example, and an evaluation that draws."""

    def batches(self, epoch, start):
        for b in super().batches(epoch, start):
            yield Batch(b.student_input, b.teacher_input, b.target, b.index, extra_input=b.student_input.flip(3))

    def evaluate(self, networks, split):
        torch.rand(3)
        return super().evaluate(networks, split)


@pytest.mark.parametrize("regime", ["offline", "online", "peers"])
def test_no_draw_of_a_method_or_an_evaluation_reaches_a_network(monkeypatch, regime):
    monkeypatch.setitem(registry._known, "draws", Draws)
    alone = trainer(recipe(), "none", "alone", dropout=0.4)
    alone.run()
    with_draws = trainer(recipe(), "draws", regime, StrongTask(), dropout=0.4)
    with_draws.run()
    assert differing(alone.distiller.student, with_draws.distiller.student, buffers=False) == []
    seldom = trainer(recipe(evaluate_every=2), "draws", regime, StrongTask(), dropout=0.4)
    seldom.run()
    for role, network in with_draws.distiller.networks.items():
        assert differing(network.module, seldom.distiller.networks[role].module) == []
    assert with_draws.distiller.method.drawn == seldom.distiller.method.drawn
    assert len(set(seldom.distiller.method.drawn)) == 3 * 12


def test_peers_draw_from_streams_of_their_own(monkeypatch):
    monkeypatch.setitem(registry._known, "draws", Draws)
    run = trainer(recipe(), "draws", "peers", StrongTask(), dropout=0.4)
    modules = {role: network.module for role, network in run.distiller.networks.items()}
    assert list(modules) == ["student", "peer1", "peer2"]
    for module in modules.values():
        module.load_state_dict(modules["student"].state_dict())
    start = copy.deepcopy(modules["student"])
    run.run()
    for role, module in modules.items():
        assert differing(module, trained_literally(start, role, 1), buffers=False) == []


@pytest.mark.parametrize("parts", [1, 2])
def test_a_run_with_dropout_that_is_resumed_within_an_epoch_ends_in_the_same_weights(tmp_path, monkeypatch, parts):
    whole_and_resumed(tmp_path, monkeypatch, "dml+adm", "online", dropout=0.4, accumulate=parts)


def test_a_stream_begins_where_its_seed_says():
    sow(torch.device("cpu"), 3, "student")
    first = torch.rand(4)
    torch.rand(9)
    sow(torch.device("cpu"), 3, "student")
    assert torch.equal(first, torch.rand(4))
    assert torch.equal(first, torch.rand(4, generator=torch.Generator().manual_seed(derive(3, "student"))))
