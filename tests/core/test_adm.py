"""ADM's losses against slow literal loops of the forms as documented, and what its controls mean."""

import math
from dataclasses import replace

import pytest
import torch

from adm_core import registry
from adm_core.errors import AdmError
from adm_core.method import View
from adm_core.testing.networks import tiny_facts
from adm_core.testing.setup import Setup
from tests.core.toy import make_step

B, C, H, W, K = 3, 6, 4, 4, 5
PLAIN = {"ramp": 0.0, "consensus": 1.0, "divergence": 1.0}


def view(seed, width=C):
    g = torch.Generator().manual_seed(seed)
    features = torch.randn(B, width, H, W, generator=g).relu().requires_grad_()
    head = torch.nn.Linear(width, K)
    with torch.no_grad():
        head.weight.copy_(torch.randn(K, width, generator=g))
        head.bias.copy_(torch.randn(K, generator=g))
    prediction = head(features.mean((2, 3)))
    return View(prediction, "class_logits", {"last": features}, torch.zeros(B), head)


def adm(student, teacher, **settings):
    method = registry.create("adm", {"adm": {**PLAIN, **settings}})
    shapes = [{"prediction": (B, K), "last": (B, C, H, W), "head": (K, C)}] * 2
    assert method.supports(*shapes, "online") is None
    method.parts = method.build(*shapes, tiny_facts())
    return method


def step(progress=1.0):
    return make_step(torch.tensor([0, 4, 2]), progress, torch.Generator())


def weights(s, t, sign, tau):
    """Loop over images and positions: |Ω| softmax(sign · cosine / τ)."""
    out = torch.zeros(B, H, W)
    for b in range(B):
        exps = {}
        for i in range(H):
            for j in range(W):
                u, v = s[b, :, i, j], t[b, :, i, j]
                exps[i, j] = math.exp(sign * float(u @ v / (u.norm() * v.norm()).clamp_min(1e-8)) / tau)
        for place, e in exps.items():
            out[b][place] = H * W * e / sum(exps.values())
    return out


def test_form_h_is_cross_entropy_of_the_reweighted_pooling():
    s, t = view(0), view(1)
    losses = adm(s, t, form="H", temperature=0.3).losses(s, t, step())
    fs, ft = s.features["last"].detach(), t.features["last"].detach()
    for own, f, sign, term in ((s, fs, 1, losses.student["consensus"]), (t, ft, -1, losses.teacher["divergence"])):
        w = weights(fs, ft, sign, 0.3)
        places = [(i, j) for i in range(H) for j in range(W)]
        pooled = torch.stack([sum(w[b, i, j] * f[b, :, i, j] for i, j in places) / 16 for b in range(B)])
        expected = torch.nn.functional.cross_entropy(own.head(pooled), step().target)
        assert term.item() == pytest.approx(expected.item(), rel=1e-4)


def test_form_m_is_weighted_distance_and_hinged_similarity():
    s, t = view(2), view(3)
    losses = adm(s, t, form="M", temperature=0.5, margin=0.2).losses(s, t, step())
    fs, ft = s.features["last"].detach(), t.features["last"].detach()
    cos = torch.nn.functional.cosine_similarity(fs, ft, dim=1)
    w, v = (weights(fs, ft, sign, 0.5).flatten().tolist() for sign in (1, -1))
    values = cos.flatten().tolist()
    pull = sum(a * (1 - c) for a, c in zip(w, values, strict=True))
    push = sum(a * max(0.0, c - 0.2) for a, c in zip(v, values, strict=True))
    assert float(losses.student["consensus"]) == pytest.approx(pull / cos.numel(), rel=1e-4)
    assert float(losses.teacher["divergence"]) == pytest.approx(push / cos.numel(), rel=1e-4)


def test_form_w_weighs_the_class_responses_of_image_classifiers():
    s, t = view(4), view(5)
    losses = adm(s, t, form="W", temperature=0.5).losses(s, t, step())
    fs, ft = s.features["last"].detach(), t.features["last"].detach()
    w, v = weights(fs, ft, 1, 0.5), weights(fs, ft, -1, 0.5)
    co = di = 0.0
    for b in range(B):
        for i in range(H):
            for j in range(W):
                ls, lt = (x.head(f[b, :, i, j]).log_softmax(0) for x, f in ((s, fs), (t, ft)))
                co += float(w[b, i, j] * (lt.exp() * (lt - ls)).sum())
                di += float(-v[b, i, j] * lt[step().target[b]])
    assert float(losses.student["consensus"]) == pytest.approx(co / (B * H * W), rel=1e-4)
    assert float(losses.teacher["divergence"]) == pytest.approx(di / (B * H * W), rel=1e-4)


def test_form_w_on_dense_predictions_resizes_the_weights_and_skips_void():
    g = torch.Generator().manual_seed(6)
    mask = torch.ones(B, 8, 8, dtype=torch.bool)
    mask[:, :4] = False
    dense = []
    for seed in (0, 1):
        logits = torch.randn(B, K, 8, 8, generator=g, requires_grad=True)
        f = torch.randn(B, C, H, W, generator=torch.Generator().manual_seed(seed)).relu()
        dense.append(View(logits, "class_logits", {"last": f}, logits.pow(2).mean(1)))
    s, t = dense
    method = registry.create("adm", {"adm": {**PLAIN, "weighting": "uniform"}})
    shapes = {"prediction": (B, K, 8, 8), "last": (B, C, H, W)}
    method.build(shapes, shapes, tiny_facts())
    losses = method.losses(s, t, make_step(torch.zeros(B), 1.0, torch.Generator(), mask))
    assert float(losses.teacher["divergence"]) == pytest.approx(float(t.task_loss[:, 4:].mean()), rel=1e-5)
    ls, lt = s.prediction.log_softmax(1), t.prediction.log_softmax(1)
    expected = (lt.exp() * (lt - ls)).sum(1)[:, 4:].mean()
    assert float(losses.student["consensus"]) == pytest.approx(float(expected), rel=1e-5)


def test_uniform_control_of_form_h_is_the_plain_prediction():
    s, t = view(7), view(8)
    losses = adm(s, t, form="H", weighting="uniform").losses(s, t, step())
    expected = torch.nn.functional.cross_entropy(s.prediction, step().target)
    assert float(losses.student["consensus"]) == pytest.approx(float(expected), rel=1e-5)


def test_swapped_control_exchanges_the_two_weight_maps():
    s, t = view(9), view(10)
    straight = adm(s, t, form="M")
    swapped = adm(s, t, form="M", weighting="swapped")
    fixed = straight._similarity(s.detached(), t.detached())
    assert torch.equal(straight._weights(fixed, 1.0, step()), swapped._weights(fixed, -1.0, step()))
    assert not torch.equal(straight._weights(fixed, 1.0, step()), swapped._weights(fixed, 1.0, step()))


def test_form_f_modulates_features_in_place_of_the_losses_on_labels():
    s, t = view(12), view(13)
    losses = adm(s, t, form="F", consensus=0.6, divergence=0.2, ramp=0.5).losses(s, t, step(0.25))
    fs, ft = s.features["last"].detach(), t.features["last"].detach()
    for own, f, sign, strength in ((s, fs, 1, 0.3), (t, ft, -1, 0.1)):
        modulated = f * (1 + strength * (weights(fs, ft, sign, 0.5) - 1))[:, None]
        expected = torch.nn.functional.cross_entropy(own.head(modulated.mean((2, 3))), step().target)
        term = losses.student["consensus"] if sign == 1 else losses.teacher["divergence"]
        assert float(term) == pytest.approx(float(expected), rel=1e-4)
    assert losses.student_task == losses.teacher_task == 0


def test_form_f_leaves_the_labels_to_the_task_where_it_does_not_act():
    s, t = view(12), view(13)
    losses = adm(s, t, form="F", divergence=0.0).losses(s, t, step())
    assert (losses.student_task, losses.teacher_task, losses.teacher) == (0, 1, {})
    frozen = adm(s, t, form="F").losses(s, t.detached(), step())
    assert (frozen.student_task, frozen.teacher_task, frozen.teacher) == (0, 1, {})


def test_uniform_control_of_form_f_is_the_plain_loss():
    s, t = view(14), view(15)
    losses = adm(s, t, form="F", weighting="uniform").losses(s, t, step())
    expected = torch.nn.functional.cross_entropy(s.prediction, step().target)
    assert float(losses.student["consensus"]) == pytest.approx(float(expected), rel=1e-5)


def test_annealed_weights_sharpen_along_training_and_ranked_ones_ignore_the_temperature():
    s, t = view(16), view(17)
    fs, ft = s.features["last"].detach(), t.features["last"].detach()
    annealed = adm(s, t, weighting="annealed", temperature=0.2)
    for progress, tau in ((0.0, 2.0), (0.5, 0.2 * 10**0.5), (1.0, 0.2)):
        made = annealed.maps(s, t, step(progress))
        assert torch.allclose(made.consensus, weights(fs, ft, 1, tau), rtol=1e-4)
        assert torch.allclose(made.divergence, weights(fs, ft, -1, tau), rtol=1e-4)
    ranked = [adm(s, t, weighting="ranking", temperature=tau).maps(s, t, step()) for tau in (0.1, 9.0)]
    assert torch.equal(ranked[0].consensus, ranked[1].consensus)
    for image in range(B):  # higher S, higher w and lower v, wherever S differs
        values = ranked[0].similarity[image].flatten()
        above = values[:, None] > values
        w, v = (kind[image].flatten() for kind in (ranked[0].consensus, ranked[0].divergence))
        assert (w[:, None] > w)[above].all() and (v[:, None] < v)[above].all()
        assert w.sort().values.tolist() == v.sort().values.tolist() == [(2 * r + 1) / 16 for r in range(H * W)]


def test_ramp_rises_linearly_and_weights_scale():
    s, t = view(11), view(12)
    full = adm(s, t).losses(s, t, step()).student["consensus"]
    half = adm(s, t, ramp=0.5, consensus=3.0).losses(s, t, step(0.25)).student["consensus"]
    assert float(half) == pytest.approx(1.5 * float(full), rel=1e-5)


def test_consensus_only_and_divergence_only():
    s, t = view(13), view(14)
    assert not adm(s, t, divergence=0.0).losses(s, t, step()).teacher
    assert not adm(s, t, consensus=0.0).losses(s, t, step()).student


def test_logs_similarity_and_entropies():
    s, t = view(15), view(16)
    log = adm(s, t).losses(s, t, step()).log
    cos = torch.nn.functional.cosine_similarity(s.features["last"], t.features["last"], dim=1)
    assert float(log["similarity_mean"]) == pytest.approx(float(cos.detach().mean()), rel=1e-5)
    assert 0 < float(log["consensus_entropy"]) <= 1 and 0 < float(log["divergence_entropy"]) <= 1


def test_frozen_teacher_keeps_consensus_alone():
    losses = Setup("adm", "offline", {}).losses()
    assert set(losses.student) == {"consensus"} and not losses.teacher


def literal_head(own, first, second, sign, tau):
    """Form H of one network of two: its classifier's cross-entropy on positions weighted by the likeness of both."""
    f, w = own.features["last"].detach(), weights(*(v.features["last"].detach() for v in (first, second)), sign, tau)
    pooled = torch.stack(
        [sum(w[b, i, j] * f[b, :, i, j] for i in range(H) for j in range(W)) / (H * W) for b in range(B)]
    )
    return float(torch.nn.functional.cross_entropy(own.head(pooled), step().target).detach())


@pytest.mark.parametrize("networks", [2, 3])
def test_among_equals_each_other_network_is_the_teacher_in_turn(networks):
    views = dict(zip(["student", "peer1", "peer2"], map(view, range(networks)), strict=False))
    method = adm(views["student"], views["peer1"], form="H", temperature=0.3, networks=networks)
    losses = method.losses(views["student"], None, replace(step(), views=views))
    assert set(losses.peers) == set(views) - {"student"} and not losses.teacher
    for role, own in views.items():
        terms = losses.student if role == "student" else losses.peers[role]
        others = [other for name, other in views.items() if name != role]
        for name, sign in (("consensus", 1), ("divergence", -1)):
            expected = sum(literal_head(own, own, other, sign, 0.3) for other in others) / len(others)
            assert terms[name].item() == pytest.approx(expected, rel=1e-4)
        grads = torch.autograd.grad(
            sum(terms.values()), [v.features["last"] for v in views.values()], allow_unused=True
        )
        assert [grad is not None for grad in grads] == [other is own for other in views.values()]


def test_two_equals_are_an_online_pair_seen_from_both_sides():
    one, two = view(20), view(21)
    method = adm(one, two, form="M")
    equals = method.losses(one, None, replace(step(), views={"student": one, "peer1": two}))
    there, back = method.losses(one, two, step()), method.losses(two, one, step())
    assert torch.equal(equals.student["consensus"], there.student["consensus"])
    assert torch.equal(equals.student["divergence"], back.teacher["divergence"])
    assert torch.equal(equals.peers["peer1"]["consensus"], back.student["consensus"])
    assert torch.equal(equals.peers["peer1"]["divergence"], there.teacher["divergence"])
    assert equals.log.keys() == there.log.keys()


def test_the_number_of_equals_is_no_part_of_a_pairs_cell():
    method = registry.create("dml+adm")
    assert method.card.regimes == {"online", "peers"} and method.needs.peers == 1
    assert "adm.networks" in method.resolved("peers") and "adm.networks" not in method.resolved("online")
    with pytest.raises(AdmError, match="'dml' 3 and 'adm' 2; set them alike"):
        registry.create("dml+adm", {"dml": {"networks": 3}})


def test_student_pulled_by_form_m_comes_closer_and_the_teacher_moves_away():
    base = {"form": "M", "width": "pool", "ramp": 0.0}
    for consensus, divergence, sign in ((20.0, 0.0, 1), (0.0, 20.0, -1)):
        bench = Setup("adm", "online", {"adm": {**base, "consensus": consensus, "divergence": divergence}})
        before = float(bench.losses(0).log["similarity_mean"])
        for _ in range(8):
            bench.step(0)
        assert sign * (float(bench.losses(0).log["similarity_mean"]) - before) > 0.01


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"form": "H", "taps": ("stage2",)}, "needs taps ['last']"),
        ({"form": "H", "width": "projector"}, "projector is trained by form M"),
        ({"width": "identity"}, "equal widths"),
        ({"taps": ("penultimate",), "form": "M"}, "not a feature map"),
        ({"taps": (), "form": "M"}, "at least 1 item"),
    ],
)
def test_settings_that_make_no_sense_are_refused_with_a_reason(settings, words):
    with pytest.raises(AdmError, match=words.replace("[", r"\[").replace("]", r"\]")):
        Setup("adm", "online", {"adm": settings})


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_a_projector_learns_to_find_agreement_and_not_to_hide_it(stop_gradient):
    own = {"form": "M", "width": "projector", "ramp": 0.0, "stop_gradient": stop_gradient}

    def gradients(**weights):
        bench = Setup("adm", "online", {"adm": own | weights})
        losses = bench.losses()
        sum([*losses.student.values(), *losses.teacher.values()]).backward()
        weights = [p.grad for p in bench.distiller.method.parts["projectors"].parameters()]
        teacher = [p.grad for p in bench.distiller.teacher.parameters() if p.grad is not None]
        return weights, teacher

    consensus, no_teacher = gradients(consensus=1.0, divergence=0.0)
    both, teacher = gradients(consensus=1.0, divergence=1.0)
    assert all(torch.equal(one, two) and one.abs().sum() > 0 for one, two in zip(consensus, both, strict=True))
    assert teacher and not no_teacher
