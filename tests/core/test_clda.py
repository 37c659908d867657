"""CLDA: salience and choice against literal loops, what of the teacher moves and how, its controls, resuming."""

import math

import pytest
import torch
from torch import nn

from adm_core.memory import Counter
from adm_core.salience import Salience, layers_of
from adm_core.testing.fake_gpu import step_on_gpu
from adm_core.testing.networks import task_loss
from adm_core.testing.setup import Setup
from tests.core.literal import kl, numbers, softmax
from tests.core.resuming import whole_and_resumed

T = 4.0


def salience(*sums):
    made = Salience([torch.zeros_like(each) for each in sums])
    made.add([torch.ones_like(each) for each in sums], sums, anew=True)
    return made


def test_rates_are_shares_above_the_mean_of_all_and_the_lowest_are_chosen():
    sums = [numbers(n, 3, 4).abs() * scale for n, scale in enumerate((5.0, 1.0, 2.0, 0.3))]
    values = [total.flatten().tolist() for total in sums]
    mean = sum(map(sum, values)) / sum(map(len, values))
    rates = [sum(value > mean for value in row) / len(row) for row in values]
    made = salience(*sums)
    made.choose(0.5, at_random=False)
    lowest = sorted(range(4), key=lambda layer: rates[layer])[:2]
    assert made.chosen.nonzero().flatten().tolist() == sorted(lowest) != [0, 1]
    for layer, (row, moves) in enumerate(zip(values, made.movable(), strict=True)):
        assert moves.flatten().tolist() == [layer in lowest and value <= mean for value in row]


def test_sums_are_of_weights_times_gradients_and_begin_anew():
    weights, gradients = [numbers(0, 2, 3)], [numbers(1, 2, 3)]
    made = Salience(weights)
    for anew in (True, False, False):
        made.add(weights, gradients, anew)
    torch.testing.assert_close(made.sums[0], 3 * (weights[0] * gradients[0]).abs())
    made.add(weights, gradients, anew=True)
    torch.testing.assert_close(made.sums[0], (weights[0] * gradients[0]).abs())


def test_layers_without_a_gradient_are_chosen_last_and_random_ones_change():
    made = salience(torch.zeros(2, 2), 1 + numbers(0, 2, 2).abs(), 1 + numbers(1, 2, 2).abs())
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        for at_random in (False, True):
            made.choose(1 / 3, at_random)
            assert not made.chosen[0] and int(made.chosen.sum()) == 1
        seen.add(int(made.chosen.long().argmax()))
    assert seen == {1, 2}


def test_the_layers_of_a_network_are_its_matrices():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    assert list(layers_of(network)) == ["0.weight", "3.weight"]


def teacher_of(setup):
    return setup.distiller.parts["teacher"].network


def test_salience_is_measured_by_the_teachers_own_loss():
    setup = Setup("clda", "offline", {"clda": {"probe": 2, "teach": 2}})
    network, expected = teacher_of(setup), None
    before = {name: p.clone() for name, p in network.state_dict().items()}
    layers = [p.requires_grad_() for p in layers_of(network).values()]
    for seed in range(2):
        batch = setup.batch(seed)
        found = torch.autograd.grad(task_loss(network(batch.teacher_input), batch).mean(), layers)
        each = [(p * g).abs().detach() for p, g in zip(layers, found, strict=True)]
        expected = each if expected is None else [a + b for a, b in zip(expected, each, strict=True)]
    network.requires_grad_(False)
    for seed in range(2):
        setup.step(seed)
    for ours, theirs in zip(setup.distiller.parts["teacher"].salience.sums, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_only_what_is_not_salient_moves_and_down_the_divergence():
    setup = Setup("clda", "offline", {"clda": {"probe": 1, "teach": 3, "rate": 0.5, "layers": 0.5}})
    setup.step(0)
    network, batch = teacher_of(setup), setup.batch(1)
    before = {name: p.clone() for name, p in network.state_dict().items()}
    with torch.no_grad():
        p_s = (setup.distiller.views(batch)[0]["student"].prediction / T).log_softmax(1)
    layers = [p.requires_grad_() for p in layers_of(network).values()]
    p_t = (network(batch.teacher_input) / T).log_softmax(1)
    loss = T**2 * (p_s.exp() * (p_s - p_t)).sum(1).mean()
    found = torch.autograd.grad(loss, layers)
    network.requires_grad_(False)
    setup.distiller.load_state_dict(setup.distiller.state_dict())
    setup.step(1)
    moves = dict(zip(layers_of(network), setup.distiller.parts["teacher"].salience.movable(), strict=True))
    gradients = dict(zip(layers_of(network), found, strict=True))
    for name, value in network.state_dict().items():
        if name not in moves:
            assert torch.equal(value, before[name])
            continue
        torch.testing.assert_close(value, before[name] - 0.5 * gradients[name] * moves[name], rtol=1e-4, atol=1e-6)
        assert torch.equal(value[~moves[name]], before[name][~moves[name]])
    assert any(bool(each.any()) for each in moves.values()) and not all(bool(each.any()) for each in moves.values())


def test_the_students_term_is_its_divergence_from_the_teacher_as_it_is_now():
    setup = Setup("clda", "offline", {"clda": {"weight": 2.0, "probe": 1, "teach": 5, "rate": 0.5}})
    for seed in range(3):
        setup.step(seed)
    batch = setup.batch(4)
    views = setup.distiller.views(batch)[0]
    term = setup.losses_of(views, batch).student["teacher"]
    z = views["student"].prediction
    q, p = ((logits.double() / T).softmax(1) for logits in (teacher_of(setup)(batch.teacher_input), z))
    expected = 2 * T**2 * (q * (q.log() - p.log())).sum(1).mean()
    torch.testing.assert_close(term.double(), expected, rtol=1e-3, atol=1e-6)
    (gradient,) = torch.autograd.grad(term, z)
    torch.testing.assert_close(gradient.double(), 2 * T * (p - q) / len(z), rtol=1e-3, atol=1e-6)


ADAPT = {"adapt": True, "confidence": 0.6}


def adapting(settings, form="images"):
    """A teacher that is surer of some of what it names, and of some not."""
    setup = Setup("clda", "offline", {"clda": ADAPT | settings}, form=form)
    with torch.no_grad():
        teacher_of(setup).head.weight.mul_(100)
    return setup


def logits_of(network, images):
    with torch.no_grad():
        z = network(images).movedim(1, -1)
    return z.double().reshape(-1, z.shape[-1]).tolist()


@pytest.mark.parametrize("form", ["images", "pixels"])
def test_to_adapt_is_to_follow_the_teacher_and_what_it_names_on_the_pictures_without_labels(form):
    setup = adapting({"weight": 2.0, "probe": 1, "teach": 5, "rate": 0.001}, form)
    for seed in range(3):
        setup.step(seed)
    setup.distiller.train(False)
    batch, images = setup.batch(4), setup.batch(4).unlabelled_input
    terms = setup.losses_of(setup.distiller.views(batch)[0], batch).student
    far, named = [], []
    taught, own = logits_of(teacher_of(setup), images), logits_of(setup.distiller.student, images)
    for z_t, z in zip(taught, own, strict=True):
        far.append(2 * T**2 * kl(softmax(z_t, T), softmax(z, T)))
        if max(softmax(z_t)) > 0.6:
            named.append(-math.log(softmax(z)[z_t.index(max(z_t))]))
    assert 0 < len(named) < len(far)
    assert float(terms["teacher"].detach()) == pytest.approx(sum(far) / len(far), rel=1e-3, abs=1e-6)
    assert float(terms["named"].detach()) == pytest.approx(sum(named) / len(named), rel=1e-4)


def test_to_adapt_salience_is_of_what_the_teacher_names_and_its_updates_of_the_pictures_without_labels():
    setup = adapting({"probe": 1, "teach": 3, "rate": 0.5, "layers": 0.5})
    network, batches = teacher_of(setup), [setup.batch(seed) for seed in range(2)]
    layers = [p.requires_grad_() for p in layers_of(network).values()]
    z = network(batches[0].unlabelled_input)
    sure, named = z.detach().softmax(1).max(1)
    each = [-z[i].log_softmax(0)[named[i]] for i in range(len(z)) if sure[i] > 0.6]
    assert 0 < len(each) < len(z)
    found = torch.autograd.grad(sum(each) / len(each), layers)
    salient = [(p * g).abs().detach() for p, g in zip(layers, found, strict=True)]
    network.requires_grad_(False)
    setup.step(0)
    made = setup.distiller.parts["teacher"].salience
    for ours, theirs in zip(made.sums, salient, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)
    layers = [p.requires_grad_() for p in layers_of(network).values()]
    step = setup.distiller.step(batches[1], 0.5, torch.Generator(), setup.distiller.views(batches[1])[0])
    p_s = (step.unlabelled["student"].prediction.detach() / T).log_softmax(1)
    p_t = (network(batches[1].unlabelled_input) / T).log_softmax(1)
    found = torch.autograd.grad(T**2 * (p_s.exp() * (p_s - p_t)).sum(1).mean(), layers)
    network.requires_grad_(False)
    moves, before = made.movable(), [p.detach().clone() for p in layers]
    setup.step(1)
    for now, old, gradient, moved in zip(layers, before, found, moves, strict=True):
        torch.testing.assert_close(now.detach(), old - 0.5 * gradient * moved, rtol=1e-4, atol=1e-6)
    assert any(bool(each.any()) for each in moves)


@pytest.mark.parametrize("form", ["images", "pixels", "denoisers"])
def test_a_frozen_teacher_is_that_of_kd_and_others_move(form):
    frozen = Setup("clda", "offline", {"clda": {"rate": 0.0, "probe": 1, "teach": 9}}, form=form)
    moving = Setup("clda", "offline", {"clda": {"rate": 0.5, "probe": 1, "teach": 9, "choice": "random"}}, form=form)
    before = [p.clone() for p in teacher_of(frozen).parameters()]
    for seed in range(4):
        frozen.step(seed)
        moving.step(seed)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher_of(frozen).parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(before, teacher_of(moving).parameters(), strict=True))


def test_a_whole_turn_on_a_gpu_waits_for_nothing():
    step_on_gpu(Setup("clda", "offline", {"clda": {"probe": 1, "teach": 1}}), [0.2, 0.4, 0.6])


def test_a_run_resumes_in_the_middle_of_a_turn(tmp_path, monkeypatch):
    settings = {"clda": {"probe": 2, "teach": 5}}
    run, trained = whole_and_resumed(tmp_path, monkeypatch, "clda", "offline", settings, epochs=6)
    made = run.distiller.parts["teacher"].salience
    assert isinstance(made, Counter) and made.count == run.progress.step == 36
    assert int(made.chosen.sum()) == 1 and trained.curves["validation.student.top1"][-1] > 60
