"""Methods of networks and branches that train together, against literal loops in float64, with their gradients."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from adm_core import registry
from adm_core.losses.difficulty import easiest
from adm_core.method import Facts
from adm_core.testing.setup import Setup
from tests.core.literal import numbers, view
from tests.core.oracle import (
    PAIRS,
    STAGES,
    TARGET,
    B,
    K,
    agree,
    by_role,
    ce,
    kl,
    leaves,
    losses,
    made,
    mean,
    shapes,
    shown,
    soft,
)

# --- two networks ---


@pytest.mark.parametrize("roles", PAIRS)
def test_dcm_teaches_every_classifier_by_every_one_of_the_other(roles):
    views = shown(roles, STAGES)
    method = made("dcm", views, weight=0.5, temperature=2.0)
    logits = {}
    for role, own in views.items():
        auxiliary = method.parts[f"auxiliary_{role}"]
        assert [sum(isinstance(m, nn.Conv2d) for m in each.modules()) for each in auxiliary] == [2, 1]
        maps = list(own.features.values())
        logits[role] = [auxiliary[0](maps[0]), auxiliary[1](maps[1]), own.prediction]
    expected = {}
    for role, other in (roles, roles[::-1]):
        pairs = [(p.detach(), q) for q in logits[role] for p in logits[other]]
        mutual = 0.5 * sum(kl(p, q, 2.0) for p, q in pairs)
        expected[role] = {"auxiliary": ce(logits[role][0]) + ce(logits[role][1]), "mutual": mutual}
    agree(losses(method, views), expected, [*leaves(views), *method.parts[f"auxiliary_{roles[1]}"].parameters()])


def test_dcms_classifiers_go_on_as_their_network_does():
    views = shown(PAIRS[0], STAGES)
    first = made("dcm", views).parts["auxiliary_student"][0]
    convolutions = [m for m in first if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.stride) for m in convolutions] == [(4, 6, (2, 2)), (6, 6, (1, 1))]


@pytest.mark.parametrize("roles", [*PAIRS, ("student", "peer1", "peer2")])
def test_the_best_network_of_a_batch_teaches_the_others(roles):
    views = shown(roles, {"last": (4, 3)})
    method = made("competitive", views, logit_weight=0.7, feature_weight=0.3, networks=max(len(roles), 2))
    task = {role: float(own.task_loss.detach().mean()) for role, own in views.items()}
    best, expected = min(task, key=task.get), {}
    target = views[best].features["last"].detach().flatten().tolist()
    for role in (role for role in roles if role != best):
        own = views[role].features["last"].flatten()
        difference = mean((a - b) ** 2 for a, b in zip(own, target, strict=True))
        divergence = kl(views[best].prediction.detach(), views[role].prediction)
        expected[role] = {"logits": 0.7 * divergence, "features": 0.3 * difference}
    found = losses(method, views)
    agree(found, expected, leaves(views))
    assert float(found.log["student_teaches"]) == (best == "student") and found.student_task == 1.0


def kept(values, share):
    order = sorted(range(B), key=lambda i: float(values[i].detach()))
    return order[: int((1 - share) * B)]


@pytest.mark.parametrize("roles", PAIRS)
@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.0), (0.025, 0.2), (0.5, 0.4)])
def test_jocor_keeps_the_examples_of_the_smallest_joint_loss(roles, progress, share):
    views = shown(roles)
    one, two = (own.prediction for own in views.values())
    each = {
        role: [0.7 * -soft(row)[y].log() for row, y in zip(own.prediction, TARGET.tolist(), strict=True)]
        for role, own in views.items()
    }
    agreement = [0.3 * (kl([p], [q]) + kl([q], [p])) for p, q in zip(one, two, strict=True)]
    joint = [a + b + c for a, b, c in zip(*each.values(), agreement, strict=True)]
    chosen = kept(joint, share)
    half = mean(agreement[i] for i in chosen) / 2
    expected = {r: {"supervised": mean(own[i] for i in chosen), "agreement": half} for r, own in each.items()}
    found = losses(made("jocor", views, agreement=0.3, forget=0.4), views, progress)
    agree(found, expected, leaves(views))
    assert (found.student_task, found.teacher_task) == (0.0, 0.0)


@pytest.mark.parametrize("roles", PAIRS)
def test_co_teaching_takes_the_mean_over_what_the_other_finds_easy(roles):
    views, expected = shown(roles), {}
    for role, other in (roles, roles[::-1]):
        chosen = kept(views[other].task_loss, 0.4)
        rows = [views[role].prediction[i] for i in chosen]
        terms = [-soft(row)[TARGET[i]].log() for row, i in zip(rows, chosen, strict=True)]
        expected[role] = {"chosen": sum(terms) / len(terms)}
    found = losses(made("co-teaching", views, forget=0.4), views)
    agree(found, expected, leaves(views))
    assert (found.student_task, found.teacher_task) == (0.0, 0.0)


def test_at_least_one_example_is_kept():
    values = torch.tensor([3.0, 1.0, 2.0, 5.0])
    assert [sorted(easiest(values, f).tolist()) for f in (0.0, 0.3, 0.5, 0.99)] == [[0, 1, 2, 3], [1, 2], [1, 2], [1]]


@pytest.mark.parametrize(("roles", "widths"), [(PAIRS[0], {"teacher": 2}), (("student", "peer1", "peer2"), None)])
@pytest.mark.parametrize(("progress", "w"), [(2 / 15, math.exp(-5 / 4)), (0.5, 1.0)])
def test_ffl_fuses_maps_and_teaches_both_ways(roles, widths, progress, w):
    views = shown(roles, {"last": (4, 3)}, widths)
    method = made("ffl", views, weight=0.5, networks=max(len(roles), 2))
    fused = method.parts["fusion"](torch.cat([own.features["last"] for own in views.values()], 1))
    ensemble = [mean(rows).detach() for rows in zip(*(own.prediction for own in views.values()), strict=True)]
    expected = {r: {"fusion": 0.5 * w * kl(fused.detach(), own.prediction, 3.0)} for r, own in views.items()}
    expected["parts"] = {"labels": ce(fused), "ensemble": 0.5 * w * kl(ensemble, fused, 3.0)}
    agree(losses(method, views, progress), expected, [*leaves(views), *method.parts["fusion"].parameters()])


@pytest.mark.parametrize(("roles", "widths"), [(PAIRS[0], {"teacher": 2}), (PAIRS[1], None)])
def test_each_network_must_pass_its_critic_for_the_other(roles, widths):
    views = shown(roles, {"last": (4, 6)}, widths)
    method = made("afd-adversarial", views, weight=0.5)
    critics, adapters, expected = method.parts["critics"], method.parts["adapters"], {"parts": {}}
    for role, other in (roles, roles[::-1]):
        own, theirs = adapters[role](views[role].features["last"]), views[other].features["last"].detach()
        mutual = kl(views[other].prediction.detach(), views[role].prediction, 3.0)
        expected[role] = {"mutual": mutual, "adversarial": 0.5 * mean((1 - x) ** 2 for x in critics[role](own)[:, 0])}
        telling = mean(x**2 for x in critics[role](own.detach())[:, 0])
        expected["parts"][role] = telling + mean((1 - x) ** 2 for x in critics[role](theirs)[:, 0])
    found = losses(method, views)
    agree(found, expected, [*leaves(views), *adapters.parameters()])
    for role, term in found.parts.items():
        ours, theirs = (torch.autograd.grad(x, list(critics[role].parameters()), retain_graph=True)
                        for x in (term, expected["parts"][role]))  # fmt: skip
        assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-12) for a, b in zip(ours, theirs, strict=True))
    judged = sum(terms["adversarial"] for role, terms in by_role(found).items() if role != "parts")
    assert all(g is None for g in torch.autograd.grad(judged, list(critics.parameters()), allow_unused=True))


def test_shakes_shadow_learns_from_student_labels_and_teacher():
    views = shown(("student", "teacher"), STAGES)
    head = nn.Linear(6, K).double()
    fixed = replace(views["teacher"], prediction=views["teacher"].prediction.detach(), head=head)
    views["teacher"] = replace(fixed, features={tap: x.detach() for tap, x in fixed.features.items()})
    method = registry.create("shake", {"shake": {"weight": 0.5}})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = method.build(shapes(views["student"]), shapes(fixed) | {"head": (K, 6)}, Facts(B, K, TARGET, 1, B))
    method.take({name: part.double() for name, part in parts.items()})
    down, side, maps = method.parts["down"], method.parts["side"], list(views["teacher"].features.values())
    x = down[1](down[0](maps[0]) + side[0](maps[1])) + side[1](maps[2])
    read = method.parts["last"](x)
    pooled = torch.stack([torch.stack([c.sum() / c.numel() for c in example]) for example in read])

    def standardised(logits):
        rows = []
        for row in logits:
            middle = sum(row) / K
            variance = sum((z - middle) ** 2 for z in row) / K
            rows.append(torch.stack([3.1415 * (z - middle) / (variance + 1e-7).sqrt() for z in row]))
        return torch.stack(rows)

    weight, bias = head.weight.detach(), head.bias.detach()
    shadow, own = standardised(pooled @ weight.T + bias), standardised(views["student"].prediction)
    theirs = standardised(views["teacher"].prediction)
    squares = mean((a - b) ** 2 for a, b in zip(shadow.flatten(), theirs.flatten(), strict=True))
    expected = {
        "student": {"standardised": ce(own), "shadow": 0.5 * kl(shadow.detach(), own, 4.0)},
        "parts": {"student": 0.5 * kl(own.detach(), shadow, 4.0), "labels": 0.5 * ce(shadow), "teacher": 0.5 * squares},
    }
    found = losses(method, views)
    convolutions = [p for name in ("down", "side", "last") for p in method.parts[name].parameters()]
    agree(found, expected, [*leaves(views), *convolutions, head.weight])
    assert found.student_task == 0.0


def test_shake_deploys_the_student_with_standardised_logits():
    setup = Setup("shake", "offline", {})
    x, student = setup.batch(0).student_input, setup.distiller.student.eval()
    deployed = setup.method.deployed(setup.distiller.networks).eval()
    with torch.no_grad():
        raw, logits = student(x), deployed(x)
    assert torch.equal(raw.argsort(1), logits.argsort(1))
    torch.testing.assert_close(logits.std(1, correction=0), torch.full((len(x),), 3.1415), rtol=1e-3, atol=0)


# --- branches and peers ---


def test_stages_that_halve_an_odd_map_are_followed_to_its_size():
    """Seven rows become four: a stride of 7 // 4 would leave them seven."""
    views = shown(PAIRS[0], {"all-stages.1": (4, 7), "all-stages.2": (6, 4)})
    classifier = made("dcm", views).parts["auxiliary_student"][0]
    assert classifier[0](numbers(0, B, 4, 7, 7)).shape == (B, 6, 4, 4)
    stages = shapes(views["teacher"]) | {"head": (K, 6)}
    shadow = registry.create("shake").build(stages, stages, Facts(B, K, TARGET, 1, B))
    assert shadow["down"][0].double()(numbers(0, B, 4, 7, 7)).shape == (B, 6, 4, 4)  # type: ignore[operator]


def branched(count):
    views = shown([f"branch{n}" for n in range(1, count + 1)], {"penultimate": (8, 0)})
    ends = tuple(views.values())
    return {"student": replace(ends[0], branches=ends)}, ends


@pytest.mark.parametrize("count", [2, 4])
def test_cl_ilrs_targets_are_the_others_mean_and_pass_gradients(count):
    views, ends = branched(count)
    found = losses(made("cl-ilr", views, count=count, weight=0.5), views, 2 / 15)
    divergences = []
    for m, own in enumerate(ends):
        others = [own.prediction for j, own in enumerate(ends) if j != m]
        target = [mean(rows) for rows in zip(*others, strict=True)]
        divergences.append(kl(target, own.prediction, 3.0))
    expected = {f"branch{m}": ce(own.prediction) for m, own in enumerate(ends[1:], start=2)}
    expected["distillation"] = 0.5 * math.exp(-5 / 4) * sum(divergences)
    agree(found, {"student": expected}, leaves({"all": views["student"]}))


@pytest.mark.parametrize("form", ["branches", "networks"])
def test_okddips_peers_weigh_each_other_and_teach_the_leader(form):
    views, ends = branched(4)
    if form == "networks":
        views = dict(zip(("student", "peer1", "peer2", "peer3"), ends, strict=True))
    leader, *peers = ends
    method = made("okddip", views, weight=0.5, factor=4, form=form)
    query, key = method.parts["query"], method.parts["key"]
    assert query.weight.shape == (2, 8) and query.bias is None
    divergences = []
    for own in peers:
        rows = []
        for b in range(B):
            q = [row @ own.features["penultimate"][b] for row in query.weight]
            keys = [[row @ other.features["penultimate"][b] for row in key.weight] for other in peers]
            attention = soft([sum(x * y for x, y in zip(q, k, strict=True)) for k in keys])
            rows.append(sum(a * other.prediction[b] for a, other in zip(attention, peers, strict=True)))
        divergences.append(kl(rows, own.prediction, 3.0))
    average = [mean(rows) for rows in zip(*(own.prediction for own in peers), strict=True)]
    expected = {"student": {"leader": 0.5 * kl(average, leader.prediction, 3.0)}}
    if form == "networks":
        expected |= {f"peer{m}": {"peers": 0.5 * own} for m, own in enumerate(divergences, start=1)}
    else:
        expected["student"] |= {f"branch{m}": ce(own.prediction) for m, own in enumerate(peers, start=2)}
        expected["student"]["peers"] = 0.5 * sum(divergences)
    inputs = [*leaves(dict(enumerate(ends))), query.weight, key.weight]
    agree(losses(method, views), expected, inputs)


@pytest.mark.parametrize(("progress", "w"), [(0.0, math.exp(-5)), (4 / 15, 1.0), (1.0, 1.0)])
def test_pcls_networks_learn_from_their_ensemble_and_the_others_averages(progress, w):
    roles = ("student", "peer1", "peer2")
    views = shown(roles, {"penultimate": (7, 0)})
    method = made("pcl", views, weight=0.5)
    copies = {f"average_{role}": view(numbers(50 + n, B, K), TARGET) for n, role in enumerate(roles)}
    layer = method.parts["ensemble"]
    together = [
        layer(torch.cat(rows)) for rows in zip(*(v.features["penultimate"] for v in views.values()), strict=True)
    ]
    expected = {"parts": {"labels": ce(together)}}
    for role, own in views.items():
        others = [copies[f"average_{other}"].prediction for other in roles if other != role]
        ensemble = kl([row.detach() for row in together], own.prediction, 3.0)
        averages = mean(kl(other, own.prediction, 3.0) for other in others)
        expected[role] = {"ensemble": 0.5 * w * ensemble, "averages": 0.5 * w * averages}
    agree(losses(method, views, progress, copies), expected, [*leaves(views), *layer.parameters()])


def test_pcls_averages_follow_their_own_networks_and_keep_statistics_of_their_own():
    setup = Setup("pcl", "peers", {"pcl": {"decay": 0.6}})
    networks = {role: network.module for role, network in setup.distiller.networks.items()}
    expected = {role: [p.detach().double() for p in own.parameters()] for role, own in networks.items()}
    for number, decay in enumerate((0.5, 0.6, 0.6)):  # 1 - 1 / (t + 1) is 1/2, then 2/3
        setup.step(number)
        for role, own in networks.items():
            pairs = zip(expected[role], own.parameters(), strict=True)
            expected[role] = [decay * a + (1 - decay) * p.detach().double() for a, p in pairs]
    for role, own in networks.items():
        average = setup.distiller.parts[f"average_{role}"].network
        for a, b in zip(average.parameters(), expected[role], strict=True):
            torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-6)
        pairs = list(zip(average.buffers(), own.buffers(), strict=True))
        counted = [bool(a == b == 3) for a, b in pairs if not a.is_floating_point()]  # batches that went through
        assert counted and all(counted) and average.training
        assert any(not torch.equal(a, b) for a, b in pairs if a.is_floating_point())
    assert setup.method.deployed(setup.distiller.networks) is setup.distiller.parts["average_student"].network


def test_what_cl_ilrs_branches_share_is_trained_by_the_mean_of_their_gradients():
    """The same loss to the bit; gradients before the place a fourth, those behind it what they were."""
    mean_, sum_ = Setup("cl-ilr", "peers", {}), Setup("cl-ilr", "peers", {})
    sum_.distiller.showing.cut = None
    values = [setup.loss(0) for setup in (mean_, sum_)]
    assert torch.equal(*values)
    for value in values:
        value.backward()
    ours, theirs = (setup.distiller.student.named_parameters() for setup in (mean_, sum_))
    for (name, a), (_, b) in zip(ours, theirs, strict=True):
        shared = name.startswith(("stages.0", "stages.1"))
        torch.testing.assert_close(4 * a.grad if shared else a.grad, b.grad, rtol=1e-4, atol=1e-7, msg=name)
