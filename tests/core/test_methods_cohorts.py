"""Methods of several equal networks, against literal loops in float64 with their gradients, and trained."""

import math

import pytest
import torch

from adm_core import registry
from adm_core.decoder import StageDecoder
from adm_core.held_out import HeldOut
from adm_core.losses import diversity, ensembles
from tests.core import oracle
from tests.core.literal import dot, numbers
from tests.core.oracle import PAIRS, STAGES, TARGET, K, agree, ce, kl, leaves, made, mean, shown, soft
from tests.core.resuming import whole_and_resumed

COHORTS = [*PAIRS, ("student", "peer1", "peer2")]


# --- L-MCL-lite ---


def gathered_by_hand(method, role, own):
    """Logits of the auxiliary classifiers and those gathered of all, example by example."""
    bodies, classifiers = method.parts[f"bodies_{role}"], method.parts[f"auxiliary_{role}"]
    maps = [own.features[tap] for tap in STAGES]
    read = [body(features) for body, features in zip(bodies, maps[:-1], strict=True)]
    logits = [linear(vector) for linear, vector in zip(classifiers, read, strict=True)]
    assert len(logits) == 2
    rows = []
    for b, own_logits in enumerate(own.prediction):
        scores = method.parts[f"gathering_{role}"](torch.cat([r[b] for r in (*read, own.features["penultimate"])]))
        exps = [score.exp() for score in scores]
        every = [logits[0][b], logits[1][b], own_logits]
        rows.append(sum(e / sum(exps) * z for e, z in zip(exps, every, strict=True)))
    return logits, rows


@pytest.mark.parametrize("roles", COHORTS)
def test_l_mcl_lite_gathers_the_classifiers_of_stages_into_a_teacher_for_all(roles):
    views = shown(roles, STAGES | {"penultimate": (6, 0)})
    settings = {"networks": max(len(roles), 2), "width": 4}
    method, plain = made("l-mcl-lite", views, kd=0.5, **settings), made("mcl", views, **settings)
    plain.take({name: method.parts[name] for name in plain.parts})
    every = {role: gathered_by_hand(method, role, own) for role, own in views.items()}
    expected = oracle.by_role(oracle.losses(plain, views))
    for role, own in views.items():
        logits, rows = every[role]
        teachers = ([row.detach() for row in other] for _, other in every.values())
        expected[role] = expected[role] | {
            "auxiliary": ce(logits[0]) + ce(logits[1]),
            "gathered": ce(rows),
            "kd": 0.5 * sum(kl(teacher, own.prediction, 3.0) for teacher in teachers),
        }
    parts = [p for name in method.parts if "embedding" not in name for p in method.parts[name].parameters()]
    agree(oracle.losses(method, views), expected, [*leaves(views), *parts])


def test_l_mcl_lites_gathered_logits_begin_as_the_mean_where_nothing_is_weighed():
    """With a last layer of zeros every stage has the same share."""
    views = shown(PAIRS[1], STAGES | {"penultimate": (6, 0)})
    method = made("l-mcl-lite", views)
    with torch.no_grad():
        for p in method.parts["gathering_student"][2].parameters():
            p.zero_()
    logits, _ = gathered_by_hand(method, "student", views["student"])
    average = mean([*logits, views["student"].prediction])
    assert torch.allclose(oracle.losses(method, views).student["gathered"], ce(average))


def test_l_mcl_lite_shares_mcls_settings_and_needs():
    ours, plain = registry.create("l-mcl-lite"), registry.create("mcl")
    assert ours.resolved("peers") == plain.resolved("peers") | {"kd": 1.0}
    assert (ours.needs.per_class, ours.needs.peers) == (plain.needs.per_class, plain.needs.peers) == (2, 1)


# --- KDCL ---


def chosen_by(method, held):
    """Let the examples at these positions be held out, and the running mean begin where it is not symmetric in them."""
    part = method.parts["held_out"]
    part.chosen.zero_()
    part.chosen[held] = True
    n = len(part.covariance)
    part.covariance.copy_(torch.eye(n) + torch.arange(float(n)).diag() + 0.1)
    return part


@pytest.mark.parametrize("roles", COHORTS)
def test_kdcls_general_ensemble_weighs_by_errors_on_what_is_held_out(roles):
    views, held = shown(roles), [1, 4]
    method = made("kdcl", views, ensemble="general", networks=len(roles), held_out=0.3, alpha=0.4, decay=0.75)
    part = chosen_by(method, held)
    before = part.covariance.clone()
    inverse = (before + 1e-3 * before.diagonal().mean() * torch.eye(len(roles))).inverse()
    raw = [sum(row) for row in inverse.tolist()]
    kept = [b for b in range(len(TARGET)) if b not in held]
    logits = {role: own.prediction for role, own in views.items()}
    ensemble = []
    for b in range(len(TARGET)):
        each = [soft(z[b].detach(), 4.0) for z in logits.values()]
        p = [sum(w / sum(raw) * row[k] for w, row in zip(raw, each, strict=True)) for k in range(K)]
        ensemble.append([4 * value.log() for value in p])
    expected = {
        role: {
            "labels": 0.6 * mean(-soft(z[b])[TARGET[b]].log() for b in kept),
            "ensemble": 0.4 * kl([ensemble[b] for b in kept], z[kept], 4.0),
        }
        for role, z in logits.items()
    }
    found = oracle.losses(method, views)
    agree(found, expected, leaves(views))
    assert (found.student_task, found.teacher_task) == (0.0, 0.0)
    errors = [
        [[p - int(k == TARGET[b]) for k, p in enumerate(soft(z[b].detach()))] for b in held] for z in logits.values()
    ]
    pairs = [[mean(dot(x, y) for x, y in zip(one, two, strict=True)) for two in errors] for one in errors]
    expected_mean = 0.75 * before.double() + 0.25 * torch.tensor(pairs, dtype=torch.float64)
    torch.testing.assert_close(part.covariance.double(), expected_mean, rtol=1e-6, atol=1e-7)


def test_what_is_held_out_trains_nothing_and_moves_the_weights_alone():
    views = shown(PAIRS[1])
    method = made("kdcl", views, ensemble="general")
    part, terms = chosen_by(method, range(6)), oracle.by_role(oracle.losses(method, views))
    assert all(float(term.detach()) == 0 for own in terms.values() for term in own.values())
    after = part.covariance.clone()
    chosen_by(method, [])
    before = part.covariance.clone()
    oracle.losses(method, views)
    assert torch.equal(part.covariance, before) and not torch.equal(after, before)


def test_weights_of_least_error_are_those_of_the_inverse_variances_and_never_negative():
    weights = ensembles.least_error_weights(torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64), ridge=0.0)
    torch.testing.assert_close(weights, torch.tensor([0.75, 0.25], dtype=torch.float64))
    # The second errs where the first does, and twice as much: to subtract some of it would be least.
    alike = torch.tensor([[1.0, 1.9], [1.9, 4.0]], dtype=torch.float64)
    assert alike.inverse().sum(1)[1] < 0
    assert ensembles.least_error_weights(alike, ridge=0.0).tolist() == [1.0, 0.0]
    same = torch.ones(3, 3)  # no inverse without a ridge
    torch.testing.assert_close(ensembles.least_error_weights(same), torch.full((3,), 1 / 3), rtol=1e-3, atol=1e-3)


def test_the_share_that_is_held_out_is_drawn_once_and_travels_with_the_run(tmp_path, monkeypatch):
    torch.manual_seed(3)
    part = HeldOut(50, 0.1, 2, 0.9)
    assert int(part.chosen.sum()) == 5 and torch.equal(part.holds(torch.arange(50)), part.chosen)
    settings = {"kdcl": {"ensemble": "general", "held_out": 0.25, "decay": 0.5}}
    run, trained = whole_and_resumed(tmp_path, monkeypatch, "kdcl", "peers", settings)
    assert int(run.distiller.parts["held_out"].chosen.sum()) == 4
    assert trained.curves["train.peer1.labels"][-1] < trained.curves["train.peer1.labels"][0]


@pytest.mark.parametrize("form", ["mean", "naive", "min-logit"])
def test_kdcl_of_three_networks_is_literal(form):
    views = shown(("student", "peer1", "peer2"))
    method = made("kdcl", views, ensemble=form, networks=3, alpha=0.4)
    ensemble = []
    for b, y in enumerate(TARGET.tolist()):
        rows = [own.prediction[b].detach() for own in views.values()]
        ensemble.append({
            "mean": [sum(values) / 3 for values in zip(*rows, strict=True)],
            "naive": max(rows, key=lambda row: soft(row)[y]),
            "min-logit": [min(row[k] - row[y] for row in rows) for k in range(K)],
        }[form])  # fmt: skip
    expected = {role: {"ensemble": 0.4 * kl(ensemble, own.prediction, 4.0)} for role, own in views.items()}
    found = oracle.losses(method, views)
    agree(found, expected, leaves(views))
    assert found.student_task == 0.6


def test_kdcls_linear_ensemble_is_for_two_networks():
    shapes = {"prediction": (2, K)}
    three, two = (registry.create("kdcl", {"kdcl": {"ensemble": "linear", "networks": n}}) for n in (3, 2))
    assert "for 2 networks, not 3" in three.supports(shapes, shapes, "peers")
    assert two.supports(shapes, shapes, "peers") is None is three.supports(shapes, shapes, "online")


# --- FFSD ---


def energy(features):
    """Mean of squares over channels, one list of positions per example."""
    return [
        [mean(features[b, c, i, j] ** 2 for c in range(features.shape[1]))
         for i in range(features.shape[2]) for j in range(features.shape[3])]
        for b in range(len(features))
    ]  # fmt: skip


def scaled(row):
    length = sum(value**2 for value in row).clamp_min(1e-24).sqrt()  # a decoded map may be all zeros
    return [value / length for value in row], length


def at_by_hand(a, b):
    """Mean squared difference of the attention of two maps, position by position."""
    rows = [zip(scaled(x)[0], scaled(y)[0], strict=True) for x, y in zip(energy(a), energy(b), strict=True)]
    return mean((p - q) ** 2 for row in rows for p, q in row)


def turned_by_hand(features):
    """Of every example the attention, what it becomes, and the length that it had."""
    found = []
    for row in energy(features):
        attention, length = scaled(row)
        bound = sorted(attention)[len(attention) // 3 - 1]
        turned = [a if a < bound else length - a if a > bound else length / 2 for a in attention]
        found.append((attention, turned, length))
    return found


def diversity_by_hand(own, before, decoder):
    """Of a peer whose maps are ``own``, from the last map of the peer before it."""
    turned, channels = turned_by_hand(before), before.shape[1]
    apart = mean(
        (p - q) ** 2
        for row, (_, target, _) in zip(energy(own[-1]), turned, strict=True)
        for p, q in zip(scaled(row)[0], target, strict=True)
    )
    change = torch.stack([torch.stack([(t - a) * n / channels for a, t in zip(was, to, strict=True)])
                          for was, to, n in turned])  # fmt: skip
    moved = before + change.reshape(len(before), 1, *before.shape[2:])
    return apart + sum(at_by_hand(a, b) for a, b in zip(own[:-1], by_statistics(decoder, moved, own), strict=True))


def by_statistics(decoder, last, own):
    with torch.no_grad():
        made = decoder.eval()(last, own)
    decoder.train()
    return made


def decoding_by_hand(own, decoder):
    made, total = decoder(own[-1].detach(), own), 0
    for a, b in zip(made, own[:-1], strict=True):
        rows = [(scaled(x.flatten())[0], scaled(y.detach().flatten())[0]) for x, y in zip(a, b, strict=True)]
        total = total + mean((p - q) ** 2 for x, y in rows for p, q in zip(x, y, strict=True))
        total = total + at_by_hand(a, b.detach())
    return total


@pytest.mark.parametrize(("networks", "progress", "w"), [(3, 1 / 120, math.exp(-5 / 4)), (4, 0.5, 1.0)])
def test_ffsds_peers_look_elsewhere_and_its_leader_learns_from_their_fusion(networks, progress, w):
    roles = ("student", *(f"peer{n}" for n in range(1, networks)))
    views = shown(roles, {"all-stages.1": (2, 5), "all-stages.2": (3, 3), "all-stages.3": (4, 3)})
    method = made("ffsd", views, networks=networks, diversity=0.3)
    peers, maps = list(views)[1:], {role: list(own.features.values()) for role, own in views.items()}
    decoders, expected = method.parts["decoders"], {}
    assert set(decoders) == {role for role in roles if role != "peer1"}
    for number, norm in enumerate(norm for each in decoders.values() for norm in each.norms):
        norm.momentum = 0.0  # so that both sides see the same statistics
        norm.running_mean += numbers(number, norm.num_features)
    for place, role in enumerate(peers):
        others = [views[r].prediction.detach() for r in peers if r != role]
        expected[role] = {"mutual": mean(kl(other, views[role].prediction, 2.0) for other in others)}
        if place:
            before = maps[peers[place - 1]][-1].detach()
            expected[role]["diversity"] = 0.3 * w * diversity_by_hand(maps[role], before, decoders[role])
    together = torch.cat([maps[role][-1] for role in peers], 1).detach()
    fused = method.parts["fusion"](together)
    logits = method.parts["classifier"](fused)
    own, decoder = maps["student"], decoders["student"]
    near = at_by_hand(own[-1], fused.detach()) + at_by_hand(method.parts["expansion"](own[-1]), together)
    made_of_it = by_statistics(decoder, fused.detach(), own)
    near = near + sum(at_by_hand(a, b) for a, b in zip(own[:-1], made_of_it, strict=True))
    expected["student"] = {"fusion": kl(logits.detach(), views["student"].prediction, 2.0), "attention": 10 * w * near}
    ensemble = [mean(rows).detach() for rows in zip(*(views[role].prediction for role in peers), strict=True)]
    decoding = sum(decoding_by_hand(maps[role], decoders[role]) for role in decoders)
    expected["parts"] = {"labels": ce(logits), "ensemble": kl(ensemble, logits, 2.0), "decoders": 1000 * w * decoding}
    parts = [p for part in method.parts.values() for p in part.parameters()]
    agree(oracle.losses(method, views, progress), expected, [*leaves(views), *parts])


def test_ffsds_decoders_lead_back_to_the_size_of_every_stage():
    stages = [(2, 8, 14, 14), (2, 16, 7, 7), (2, 12, 7, 7), (2, 32, 2, 2)]
    decoder, maps = StageDecoder(stages), [torch.zeros(shape) for shape in stages]
    assert [tuple(m.shape) for m in decoder(maps[-1], maps)] == stages[:-1]
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    constant = decoder.targets(torch.ones(stages[-1]), maps)
    assert not any(m.requires_grad for m in constant) and decoder.training
    assert all(torch.equal(value, before[name]) for name, value in decoder.state_dict().items())


def test_attention_is_turned_over_above_its_lowest_third():
    """Six positions of energies 1 to 6: the second lowest is the bound."""
    features = torch.arange(1.0, 7.0, dtype=torch.float64).sqrt().reshape(1, 1, 2, 3)
    turned, length = diversity.turned_over(features)
    n = math.sqrt(91)
    expected = [1 / n, n / 2, *(n - e / n for e in range(3, 7))]
    assert length.item() == pytest.approx(n) and turned[0].tolist() == pytest.approx(expected)


def test_ffsd_trains_resumes_and_leaves_its_leader(tmp_path, monkeypatch):
    run, trained = whole_and_resumed(tmp_path, monkeypatch, "ffsd", "peers")
    assert trained.networks["student"].module is run.distiller.student
    for name in ("train.student.task", "train.peer2.task", "train.parts.labels"):
        assert trained.curves[name][-1] < 0.9 * trained.curves[name][0], name
