"""OKDPH and the network of mean weights, against literal loops, own forward passes of each network, and trained."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from adm_core import registry
from adm_core.mean_network import MeanNetwork
from adm_core.testing.networks import tiny_network
from adm_core.testing.setup import Setup
from tests.core import oracle
from tests.core.literal import numbers, view
from tests.core.oracle import TARGET, B, K, agree, by_role, ce, kl, leaves, mean, shown
from tests.core.resuming import whole_and_resumed

COHORTS = [("student", "peer1"), ("student", "peer1", "peer2")]


@pytest.mark.parametrize("roles", COHORTS)
@pytest.mark.parametrize(("omega", "form"), [(0.8, "paper"), (1.0, "paper"), (0.8, "as-released")])
def test_each_network_learns_from_labels_the_hybrid_and_the_mean_logits(roles, omega, form):
    views = shown(roles)
    hybrid = view(numbers(50, B, K).requires_grad_(), TARGET)
    method = registry.create("okdph", {"okdph": {"omega": omega, "form": form, "networks": len(roles)}})
    every = [*(own.prediction for own in views.values()), hybrid.prediction]
    ensemble = [mean(rows).detach() for rows in zip(*every, strict=True)]
    expected = {role: {"ensemble": 0.8 * kl(ensemble, own.prediction, 4.0)} for role, own in views.items()}
    if omega < 1 and form == "paper":
        for role in roles:
            expected[role]["hybrid"] = (1 - omega) / len(roles) * ce(hybrid.prediction)
    found = oracle.losses(method, views, copies={"hybrid": hybrid})
    agree(found, expected, [*leaves(views), hybrid.prediction])
    assert found.student_task == omega


@pytest.mark.parametrize("networks", [2, 3])
def test_the_hybrids_loss_gives_each_network_the_gradient_of_its_own(networks):
    """As if every network had run the hybrid by itself, the others' weights constants, with weight 1 - ω."""
    setup = Setup("okdph", "peers", {"okdph": {"networks": networks, "omega": 0.7}})
    setup.step(0)
    cohort = {role: network.module.double() for role, network in setup.distiller.networks.items()}
    batch = setup.batch(1)
    shown_to_hybrid = batch.teacher_input.double()
    setup.distiller.showing.forward = lambda module, _taps, x: module(x.double())
    found = setup.losses_of(setup.distiller.views(batch)[0], batch)
    together = sum(terms["hybrid"] for terms in by_role(found).values())
    for role, own in cohort.items():
        others = [dict(m.named_parameters()) for r, m in cohort.items() if r != role]
        weights = {
            name: (p + sum(other[name].detach() for other in others)) / networks for name, p in own.named_parameters()
        }
        buffers = {name: b.clone() for name, b in own.named_buffers()}
        literal = 0.3 * nn.functional.cross_entropy(
            functional_call(own, weights | buffers, (shown_to_hybrid,)).float(), batch.target
        )
        ours = torch.autograd.grad(together, list(own.parameters()), retain_graph=True)
        theirs = torch.autograd.grad(literal, list(own.parameters()))
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)
            assert a.any()


def test_released_code_would_train_nothing_by_the_hybrid():
    losses = [Setup("okdph", "peers", {"okdph": {"form": form}}).losses(0) for form in ("paper", "as-released")]
    assert [("hybrid" in found.student) for found in losses] == [True, False]


def test_networks_begin_alike_and_differ_by_what_they_are_shown():
    setup = Setup("okdph", "peers", {"okdph": {"networks": 3, "every": 100}})
    inputs = {}
    for role, network in setup.distiller.networks.items():
        network.module.register_forward_pre_hook(
            lambda _m, given, role=role: inputs.setdefault(role, []).append(given[0])
        )
    states = [network.module.state_dict() for network in setup.distiller.networks.values()]
    assert all(
        torch.equal(a, b) for other in states[1:] for a, b in zip(states[0].values(), other.values(), strict=True)
    )
    setup.step(0)
    batch = setup.batch(0)
    # The hybrid runs in the place of the first network's weights.
    expected = {"student": [batch.student_input, batch.teacher_input]}
    expected |= {f"peer{n}": [batch.peer_inputs[n - 1]] for n in (1, 2)}
    for role, given in expected.items():
        assert len(inputs[role]) == len(given)
        assert all(torch.equal(a, b) for a, b in zip(inputs[role], given, strict=True))
    every = [batch.student_input, batch.teacher_input, *batch.peer_inputs]
    assert not any(torch.equal(a, b) for n, a in enumerate(every) for b in every[:n])
    weights = [network.module.head.weight for network in setup.distiller.networks.values()]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])


def test_every_so_often_all_networks_move_to_their_mean_with_their_statistics():
    moved, apart = (Setup("okdph", "peers", {"okdph": {"every": every, "gamma": 0.25}}) for every in (3, 100))
    for number in range(3):
        moved.step(number)
        apart.step(number)
    one, two = (network.module.state_dict() for network in apart.distiller.networks.values())
    for place, network in enumerate(moved.distiller.networks.values()):
        for name, value in network.module.state_dict().items():
            own = (one, two)[place][name]
            expected = 0.75 * own + 0.25 * (one[name] + two[name]) / 2 if own.is_floating_point() else own
            torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7)
    assert not torch.equal(one["head.weight"], two["head.weight"])


def test_the_hybrid_is_run_with_the_mean_weights_and_leaves_networks_as_they_are():
    cohort = [tiny_network(8, seed).module.eval() for seed in (1, 2)]
    both = tiny_network(8, 3).module.eval()
    both.load_state_dict(
        {
            name: (value + cohort[1].state_dict()[name]) / 2 if value.is_floating_point() else value
            for name, value in cohort[0].state_dict().items()
        }
    )
    x, hybrid = torch.randn(4, 3, 14, 14, generator=torch.Generator().manual_seed(0)), MeanNetwork(cohort)
    torch.testing.assert_close(hybrid(x), both(x))
    assert not list(hybrid.parameters()) and hybrid.state_dict().keys() == {"_extra_state"}
    before = {name: value.clone() for name, value in cohort[0].state_dict().items()}
    cohort[0].train()
    hybrid(x)
    assert all(torch.equal(value, before[name]) for name, value in cohort[0].state_dict().items())


def test_networks_without_statistics_can_be_averaged():
    pair = [nn.Linear(2, 1), nn.Linear(2, 1)]
    x = torch.ones(1, 2)
    torch.testing.assert_close(MeanNetwork(pair)(x), (pair[0](x) + pair[1](x)) / 2)


def test_okdph_trains_and_resumes_with_its_count_of_steps(tmp_path, monkeypatch):
    """It is stopped after nine steps, so a count that began anew would move networks at other steps."""
    run, trained = whole_and_resumed(tmp_path, monkeypatch, "okdph", "peers", {"okdph": {"every": 4}})
    assert run.distiller.parts["hybrid"].steps == 18
    assert trained.curves["train.student.task"][-1] < trained.curves["train.student.task"][0]
