"""PETS: exchanges undo themselves, momentum and buffers travel, consensus and terms literally, flows, a resumed run."""

import copy
import math

import pytest
import torch

from adm_core import registry
from adm_core.losses import teachers
from adm_core.method import View, ViewsOnDemand
from adm_core.network_copy import NetworkCopy
from adm_core.testing.networks import tiny_network
from adm_core.testing.setup import Setup
from tests.core.literal import kl, numbers, softmax
from tests.core.resuming import recipe, whole_and_resumed
from tests.core.toy import make_step, trainer

B, K = 6, 4


def stepped(optimizer, network, seed):
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    network(images).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("make", [
    lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True), lambda p: torch.optim.AdamW(p, lr=0.01, fused=True)
])  # fmt: skip
def test_an_exchange_is_an_involution_of_weights_buffers_and_momentum(make):
    student = tiny_network(8, seed=1).module
    copied = NetworkCopy(student, student)
    optimizer = make(student.parameters())
    for seed in range(3):
        stepped(optimizer, student, seed)

    def everything():
        state = [copy.deepcopy(optimizer.state[p]) for p in student.parameters()]
        return copy.deepcopy(student.state_dict()), copy.deepcopy(copied.network.state_dict()), state

    def exchanged():
        copied.exchange()
        copied.exchange_state(optimizer)
        return everything()

    before, between, after = everything(), exchanged(), exchanged()
    for ours, theirs in zip(before[:2], after[:2], strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert all(torch.equal(a[key], b[key]) for a, b in zip(before[2], after[2], strict=True) for key in a)
    assert all(torch.equal(before[0][name], between[1][name]) for name in before[0])
    assert all(torch.equal(before[1][name], between[0][name]) for name in before[1])
    assert not any(bool(value.any()) for state in between[2] for value in state.values())
    assert "stages.0.2.running_mean" in before[0]
    assert not torch.equal(before[0]["stages.0.2.running_mean"], before[1]["stages.0.2.running_mean"])


def test_a_tensor_of_two_names_changes_places_once():
    def shared(value):
        layer = torch.nn.BatchNorm1d(2)
        torch.nn.init.constant_(layer.weight, value)
        layer.running_mean.fill_(value)
        return torch.nn.ModuleDict({"one": layer, "two": layer, "other": torch.nn.ModuleList([layer])})

    student, other = shared(1.0), shared(2.0)
    copied = NetworkCopy(other, student)
    copied.exchange()
    for network, value in ((student, 2.0), (copied.network, 1.0)):
        assert network["one"].weight.tolist() == network["two"].running_mean.tolist() == [value, value]


def test_the_dynamic_teacher_averages_statistics_as_weights():
    """What is followed may be another network from one step to the next, whose statistics do not fit its weights."""
    one, two = (tiny_network(8, seed=seed).module for seed in (1, 2))
    for seed, network in enumerate((one, two)):
        network.train()(3 * torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) + seed)
    copied = NetworkCopy(one, two)
    copied.follow(0.75)
    before, followed = one.state_dict(), two.state_dict()
    for name, value in copied.network.state_dict().items():
        expected = 0.75 * before[name] + 0.25 * followed[name] if value.is_floating_point() else followed[name]
        torch.testing.assert_close(value, expected, msg=name)
    assert not torch.allclose(before["stages.0.2.running_var"], followed["stages.0.2.running_var"])
    copied.follow()
    assert same(copied.network.state_dict(), followed)


def test_after_two_exchanges_training_goes_on_as_if_there_had_been_none():
    plain, other = (tiny_network(8, seed=1).module for _ in range(2))
    copied = NetworkCopy(other, other)
    optimizers = [torch.optim.SGD(n.parameters(), lr=0.1, momentum=0.9) for n in (plain, other)]
    for seed in range(6):
        for optimizer, network in zip(optimizers, (plain, other), strict=True):
            stepped(optimizer, network, seed)
        if seed == 2:
            for _ in range(2):
                copied.exchange()
                copied.exchange_state(optimizers[1])
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), other.parameters(), strict=True))


def literal_consensus(one, two, least):
    p, q = softmax(one), softmax(two)
    fused = [(max(p) * a + max(q) * b) / (max(p) + max(q)) for a, b in zip(p, q, strict=True)]
    return fused, p.index(max(p)) == q.index(max(q)) and min(max(p), max(q)) > least


def test_consensus_is_the_literal_one():
    one, two = 3 * numbers(0, 20, K), 3 * numbers(0, 20, K) + 2 * numbers(1, 20, K)
    fused, known = teachers.consensus(one, two, 0.6)
    expected = [literal_consensus(a, b, 0.6) for a, b in zip(one.tolist(), two.tolist(), strict=True)]
    assert known.tolist() == [both for _, both in expected] and 0 < int(known.sum()) < 20
    for ours, (theirs, _) in zip(fused.tolist(), expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize(("progress", "dense"), [(0.1, False), (0.5, False), (0.5, True)])
def test_term_and_gradient_are_the_literal_ones(progress, dense):
    shape = (B, K, 2, 2) if dense else (B, K)
    logits = {name: 3 * numbers(n, *shape) for n, name in enumerate(("student", "teacher", "static"))}
    logits["dynamic"] = logits["static"] + 2 * numbers(9, *shape)
    shown = {name: View(z.requires_grad_(), "class_logits", {}, torch.zeros(B)) for name, z in logits.items()}
    mask = torch.ones(B, 4, 4, dtype=torch.bool) if dense else None
    if dense:
        mask[:, 2:], mask[1] = False, False
    step = make_step(torch.zeros(B, dtype=torch.int64), progress, torch.Generator(), mask)
    object.__setattr__(step, "copies", ViewsOnDemand({n: lambda n=n: shown[n] for n in ("static", "dynamic")}))
    method = registry.create("pets", {"pets": {"weight": 2.0}})
    term = method.losses(shown["student"], shown["teacher"], step).student["teachers"]
    rows = {n: (z.movedim(1, -1) if dense else z).reshape(-1, K).tolist() for n, z in logits.items()}
    valid = step.mask[:, ::2, ::2].flatten() if dense else torch.ones(B, dtype=torch.bool)
    each, expected = [], []
    for i, z in enumerate(rows["student"]):
        fused, agreed = literal_consensus(rows["static"][i], rows["dynamic"][i], 0.5)
        q = softmax(rows["teacher"][i])
        if agreed and progress > 0.2:
            q = [(a + b) / 2 for a, b in zip(q, fused, strict=True)]
        each.append(kl(q, softmax(z)) if valid[i] else 0)
        expected.append([2 * (p - a) / int(valid.sum()) * bool(valid[i]) for p, a in zip(softmax(z), q, strict=True)])
    assert float(term.detach()) == pytest.approx(2 * sum(each) / int(valid.sum()), rel=1e-6)
    (gradient,) = torch.autograd.grad(term, logits["student"])
    gradient = (gradient.movedim(1, -1) if dense else gradient).reshape(-1, K)
    torch.testing.assert_close(gradient, torch.tensor(expected).double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("form", "progress"), [("images", 0.1), ("images", 0.5), ("pixels", 0.5)])
def test_to_adapt_is_to_follow_the_teachers_on_the_pictures_without_labels(form, progress):
    settings = {"weight": 2.0, "confidence": 0.1, "adapt": True}
    setup = Setup("pets", "offline", {"pets": settings}, form=form)
    setup.step(0, progress=0.1)
    setup.step(1, progress=0.5)  # student and static teacher change places
    setup.distiller.train(False)
    batch, views = setup.batch(2), setup.distiller.views(setup.batch(2))[0]
    losses = setup.losses_of(views, batch, progress)
    networks = {name: setup.distiller.parts[name].network for name in ("static", "dynamic")}
    networks |= {name: setup.distiller.networks[name].module for name in ("student", "teacher")}
    with torch.no_grad():
        shown = {name: network(batch.unlabelled_input).movedim(1, -1) for name, network in networks.items()}
    rows, each, known = {name: z.double().reshape(-1, z.shape[-1]).tolist() for name, z in shown.items()}, [], []
    for z, taught, static, dynamic in zip(*(rows[n] for n in ("student", "teacher", "static", "dynamic")), strict=True):
        (fused, agreed), q = literal_consensus(static, dynamic, 0.1), softmax(taught)
        known.append(agreed and progress > 0.2)
        each.append(kl([(a + b) / 2 for a, b in zip(q, fused, strict=True)] if known[-1] else q, softmax(z)))
    assert float(losses.student["teachers"].detach()) == pytest.approx(2 * sum(each) / len(each), rel=1e-4)
    assert float(losses.log["agreed"]) == pytest.approx(sum(known) / len(known)) and any(known) == (progress > 0.2)
    assert losses.student_task == 1  # the labels of the source stay


def test_a_student_of_coarser_predictions_adapts_as_well():
    setup = Setup("pets", "offline", {"pets": {"confidence": 0.0, "adapt": True}}, form="pixels")
    for network in (setup.distiller.student, *(setup.distiller.parts[name].network for name in ("static", "dynamic"))):
        network.register_forward_hook(lambda _module, _given, logits: torch.nn.functional.avg_pool2d(logits, 2))
    for progress in (0.1, 0.5):
        assert math.isfinite(setup.step(0, progress))


def state_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("flow", ["exchange", "one-way", "none"])
def test_flows_between_student_and_static_teacher(flow, monkeypatch):
    setup = Setup("pets", "offline", {"pets": {"flow": flow, "exchanges": 2, "warmup": 0.2}})
    student, static = setup.distiller.student, setup.distiller.parts["static"].network
    setup.step(0, progress=0.1)
    assert same(state_of(student), state_of(static))
    seen, stepping = {}, setup.optimizers[0].step
    monkeypatch.setattr(setup.optimizers[0], "step", lambda: (stepping(), seen.update(now=state_of(student))))
    for progress, exchanged in ((0.3, True), (0.4, False), (0.7, True), (0.9, False)):
        resting = state_of(static)
        setup.step(1, progress)
        moved = flow != "none" and exchanged
        assert same(state_of(static), seen["now"] if moved else resting)
        assert same(state_of(student), resting if exchanged and flow == "exchange" else seen["now"])
    assert setup.distiller.parts["exchanges"].count == 2


def test_momentum_travels_in_the_real_loop_and_in_checkpoints(tmp_path, monkeypatch):
    settings = {"pets": {"warmup": 0.1, "exchanges": 6, "decay": 0.9}}
    run, trained = whole_and_resumed(tmp_path, monkeypatch, "pets", "offline", settings, epochs=8)
    static, dynamic = (run.distiller.parts[name] for name in ("static", "dynamic"))
    assert run.distiller.parts["exchanges"].count == 6
    assert trained.networks["student"].module is dynamic.network
    buffers = [run.optimizers[0].state[p]["momentum_buffer"] for p in run.distiller.student.parameters()]
    kept = [state["momentum_buffer"] for state in static.get_extra_state()["state"]]
    assert len(kept) == len(buffers) and all(a.shape == b.shape for a, b in zip(kept, buffers, strict=True))
    assert any(bool(each.any()) for each in kept)
    assert trained.curves["log.agreed"][-1] > 0


def test_a_run_without_exchanges_keeps_no_state():
    run = trainer(recipe(1), "ema-teacher", "offline")
    run.run()
    assert run.distiller.parts["average"].get_extra_state() == {"updates": 6, "state": []}
