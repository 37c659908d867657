"""Methods among peers: DML of K equal networks and ONE's branches, against literal loops, and trained."""

import math

import pytest
import torch

from adm_core import registry
from adm_core.errors import AdmError
from adm_core.testing.setup import Setup
from tests.core.resuming import recipe, whole_and_resumed
from tests.core.toy import trainer


def softmax(logits, temperature=1.0):
    exps = [math.exp(z / temperature) for z in logits]
    return [e / sum(exps) for e in exps]


def divergence(target, own, temperature=1.0):
    """T² KL(target || own) of two rows of logits, one class after the other."""
    p, q = softmax(target, temperature), softmax(own, temperature)
    return temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def rows(view):
    return view.prediction.detach().double().tolist()


# --- DML of K equal networks ---


@pytest.mark.parametrize("networks", [2, 3, 4])
def test_each_network_takes_the_mean_divergence_from_the_others(networks):
    setup = Setup("dml", "peers", {"dml": {"networks": networks}})
    views, batch = setup.distiller.views(setup.batch(0))[0], setup.batch(0)
    found = setup.losses_of(views, batch)
    assert list(views) == ["student", *(f"peer{n}" for n in range(1, networks))]
    for role, own in views.items():
        others = [other for peer, other in views.items() if peer != role]
        expected = mean(mean(map(divergence, rows(other), rows(own))) for other in others)
        term = found.student["mutual"] if role == "student" else found.peers[role]["mutual"]
        assert float(term.detach()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("networks", [2, 4])
def test_every_network_runs_once_however_many_there_are(networks):
    setup, runs = Setup("dml", "peers", {"dml": {"networks": networks}}), []
    for role, network in setup.distiller.networks.items():
        network.module.register_forward_hook(lambda *_, role=role: runs.append(role))
    setup.step(0)
    assert sorted(runs) == sorted(setup.distiller.networks) and len(runs) == networks


def test_two_peers_are_an_online_pair_of_equal_networks():
    """Of one width and with the same weights, regime peers gives the terms that regime online gives."""
    online, peers = Setup("dml", "online", {}, (8, 8)), Setup("dml", "peers", {}, (8, 8))
    peers.distiller.peers["peer1"].load_state_dict(online.distiller.teacher.state_dict())
    pair, equals = online.losses(0), peers.losses(0)
    assert torch.equal(pair.student["mutual"], equals.student["mutual"])
    assert torch.equal(pair.teacher["mutual"], equals.peers["peer1"]["mutual"])


def test_settings_of_one_regime_are_no_part_of_a_cell_of_the_other():
    method = registry.create("dml")
    assert list(method.resolved("online")) == ["temperature", "student_weight", "teacher_weight"]
    assert list(method.resolved("peers")) == ["temperature", "networks"]
    with pytest.raises(AdmError, match="setting 'networks' = 1: Input should be greater than or equal to 2"):
        registry.create("dml", {"dml": {"networks": 1}})


def test_peers_are_a_capability_among_peers_only():
    needs = registry.create("dml").needs
    assert "peers" in needs.capabilities_in("peers") and "peers" not in needs.capabilities_in("online")


def test_peers_that_imitate_each_other_grow_alike():
    """The divergence of two trained peers is smaller than that of two that learn apart."""
    together = trainer(recipe(4), "dml", "peers")
    networks = together.run().networks
    apart = trainer(recipe(4), "none", "alone").run(), trainer(recipe(4), "none", "alone", seed=1).run()
    x, _ = together.task.images(200, 5)

    def distance(a, b):
        with torch.no_grad():
            return float((a.module(x).softmax(1) - b.module(x).softmax(1)).abs().sum(1).mean())

    assert distance(networks["student"], networks["peer1"]) < 0.9 * distance(*(t.networks["student"] for t in apart))


@pytest.mark.parametrize("networks", [2, 3])
def test_three_networks_resume_as_two_do(tmp_path, monkeypatch, networks):
    _, trained = whole_and_resumed(tmp_path, monkeypatch, "dml", "peers", {"dml": {"networks": networks}})
    assert len(trained.networks) == networks
    assert {"train.student.mutual", "train.peer1.task", f"train.peer{networks - 1}.mutual"} <= set(trained.curves)


def test_none_among_peers_is_one_network_trained_alone():
    alone, peers = trainer(recipe(), "none", "alone"), trainer(recipe(), "none", "peers")
    alone.run()
    trained = peers.run()
    assert list(trained.networks) == ["student"]
    ours, theirs = alone.distiller.student.state_dict(), peers.distiller.student.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


# --- ONE ---


def one_by_hand(setup, views, target, temperature, w):
    """Every term of ONE, example by example."""
    student = views["student"]
    pooled = student.features["stage2"].detach().double().mean((2, 3))
    scores = pooled @ setup.distiller.parts["gate"][0].weight.detach().double().T
    normalised = (scores - scores.mean(0)) / (scores.var(0, unbiased=False) + 1e-5).sqrt()
    gates = [softmax(row) for row in normalised.clamp_min(0).tolist()]
    branches = [rows(branch) for branch in student.branches]
    terms = {f"branch{m}": mean(-math.log(softmax(z)[y]) for z, y in zip(branches[m - 1], target, strict=True))
             for m in range(2, len(branches) + 1)}  # fmt: skip
    ensemble = [
        [sum(gate[m] * branches[m][b][k] for m in range(len(branches))) for k in range(len(branches[0][b]))]
        for b, gate in enumerate(gates)
    ]
    terms["ensemble"] = mean(-math.log(softmax(z)[y]) for z, y in zip(ensemble, target, strict=True))
    each = (mean(divergence(e, z, temperature) for e, z in zip(ensemble, own, strict=True)) for own in branches)
    terms["distillation"] = w * sum(each)
    return terms


@pytest.mark.parametrize(("progress", "w"), [(0.0, math.exp(-5)), (2 / 15, math.exp(-5 / 4)), (0.5, 1.0)])
@pytest.mark.parametrize("count", [2, 3])
def test_one_is_its_formula(count, progress, w):
    setup = Setup("one", "peers", {"one": {"count": count}})
    batch = setup.batch(0)
    views = setup.distiller.views(batch)[0]
    found = setup.losses_of(views, batch, progress)
    expected = one_by_hand(setup, views, batch.target.tolist(), 3.0, w)
    assert {name: float(term.detach()) for name, term in found.student.items()} == pytest.approx(expected, rel=1e-3)
    assert not found.peers and found.student_task == 1.0


def test_ones_target_is_fixed_and_its_gate_learns_from_the_ensemble_alone():
    setup = Setup("one", "peers", {})
    found, gate = setup.losses(0), setup.distiller.parts["gate"][0].weight
    reached = {
        name: torch.autograd.grad(term, gate, retain_graph=True, allow_unused=True)[0] is not None
        for name, term in found.student.items()
    }
    assert reached == {"branch2": False, "branch3": False, "ensemble": True, "distillation": False}


def test_ones_gate_is_the_images_where_predictions_are_dense():
    """With a gate that favours no branch the ensemble is the mean of logits at every pixel."""
    setup = Setup("one", "peers", {}, form="pixels")
    batch = setup.batch(0)
    with torch.no_grad():
        setup.distiller.parts["gate"][1].weight.zero_()
    views = setup.distiller.views(batch)[0]
    found = setup.losses_of(views, batch)
    average = torch.stack([b.prediction for b in views["student"].branches]).mean(0)
    target, valid = batch.target[:, ::2, ::2], batch.mask[:, ::2, ::2]
    expected = torch.nn.functional.cross_entropy(average, target, reduction="none")[valid].mean().detach()
    assert float(found.student["ensemble"].detach()) == pytest.approx(float(expected), rel=1e-5)


def test_one_trains_resumes_and_leaves_its_first_branch(tmp_path, monkeypatch):
    run, trained = whole_and_resumed(tmp_path, monkeypatch, "one", "peers")
    assert trained.networks["student"].module is run.distiller.student
    for name in ("train.student.task", "train.student.branch3", "train.student.ensemble"):
        assert trained.curves[name][-1] < 0.9 * trained.curves[name][0], name
