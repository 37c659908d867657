"""Guidance, DKDM, DMD2 and progressive distillation of noise predictors against literal loops, and what they train."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from adm_core import registry
from adm_core.batch import noisy_batch
from adm_core.errors import AdmError
from adm_core.losses import adversarial, denoising
from adm_core.memory import StatePool
from adm_core.method import Step
from adm_core.network_copy import TrainedCopy
from adm_core.optimizer import update
from adm_core.taps import Network
from adm_core.testing.promises import CHECKS
from adm_core.testing.setup import Setup
from tests.core.literal import numbers, view
from tests.core.test_methods_fewer_steps import (
    ANGLE,
    KINDS,
    SHAPE,
    B,
    Given,
    agrees,
    clean_of,
    level,
    network,
    noising,
    prepared,
    walked,
)
from tests.core.test_methods_relations import agree


def weight(kind, t):
    """What multiplies the squared error of a clean example."""
    snr = 1 / math.tan(float(ANGLE[t])) ** 2
    return snr if kind == "epsilon" else max(snr, 1.0)


def a_view(prediction):
    shown = replace(view(prediction.flatten(1), torch.zeros(B, dtype=torch.int64)), prediction=prediction)
    return replace(shown, kind="denoiser")


# --- progressive ---


@pytest.mark.parametrize("kind", KINDS)
def test_progressive_is_a_loop_over_examples_and_of_noise_its_squared_error(kind):
    teacher = network(0.6)
    method, step = prepared("progressive", kind, {"teacher": teacher, "round": registry.create("progressive")
                            .build({}, {}, None)["round"]}, steps=3, rounds=1)  # fmt: skip
    at, given, following = step.noising.timestep.tolist(), Given(noising(kind)), {23: (19, 15), 15: (11, 7), 7: (3, -1)}
    assert set(at) <= set(following) and len(set(at)) > 1

    def literal(prediction):
        total = 0.0
        for b, t in enumerate(at):
            x, end = given.at(t, b), following[t][1]
            z, now = x, t
            for to in following[t]:
                z, now = walked(kind, teacher(z[None], torch.tensor([now]))[0], z, now, to), to
            (a, g), (a_end, g_end) = level(t), level(end)
            target = (z - g_end / g * x) / (a_end - g_end / g * a)
            if kind == "epsilon":
                total += (prediction[b] - (x - a * target) / g).pow(2).sum()
            else:
                total += weight(kind, t) * (clean_of(kind, prediction[b], x, t) - target).pow(2).sum()
        return total / prediction.numel()

    agrees(method, step, "two_steps", literal)


# --- guidance ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strength", [0.0, 1.5])
def test_guidance_is_a_loop_over_examples_with_and_without_their_class(kind, strength):
    def teacher(x, t, label):
        return 0.7 * x + 0.01 * t.view(-1, 1, 1, 1) + 0.1 * label.view(-1, 1, 1, 1) * x.pow(2)

    none, labels = 3, torch.tensor([0, 1, 2, 3, 2, 1])
    method = registry.create("guidance", {"guidance": {"strength": strength}})
    method.take({"teacher": teacher})
    drawn = replace(noising(kind), label=labels, null_label=none, timestep=torch.tensor([0, 4, 9, 15, 20, 23]))
    step = Step(noisy_batch(drawn, torch.arange(B)), 0.5, torch.Generator())
    given = Given(drawn)

    def ours(prediction):
        shown = a_view(teacher(drawn.noisy, drawn.timestep, labels))
        return method.losses(a_view(prediction), shown, step).student["guided"]

    def literal(prediction):
        total = 0.0
        for b, t in enumerate(drawn.timestep.tolist()):
            x = given.at(t, b)
            told, untold = (
                clean_of(kind, teacher(x[None], torch.tensor([t]), torch.tensor([label]))[0], x, t)
                for label in (int(labels[b]), none)
            )
            target = (1 + strength) * told - strength * untold
            total += weight(kind, t) * (clean_of(kind, prediction[b], x, t) - target).pow(2).sum()
        return total / prediction.numel()

    agree(ours, literal, numbers(5, *SHAPE))


# --- DKDM ---


@pytest.mark.parametrize("kind", KINDS)
def test_dkdm_is_a_loop_over_a_pool_of_states_that_the_teacher_moves_on(kind):
    """Three steps of the student on a pool of four trajectories of three states, at timesteps 23, 15 and 7."""
    teacher, ends, trajectories, labels = network(0.6), [-1, 7, 15, 23], 4, torch.tensor([3, 1, 2, 0, 1, 2])
    pool = StatePool(trajectories, 3, SHAPE[1:]).double()
    method = registry.create("dkdm", {"dkdm": {"steps": 3}})
    method.take({"teacher": lambda x, t, label: teacher(x, t) + 0.1 * label.double().view(-1, 1, 1, 1), "pool": pool})
    drawn = replace(noising(kind), label=labels)

    def told(x, t, label):
        return teacher(x[None], torch.tensor([t]))[0] + 0.1 * label

    states, to_go, classes = [], [], []
    noises = torch.randn(trajectories, *SHAPE[1:], generator=torch.Generator().manual_seed(0)).double()
    for left in (3, 2, 1):
        for b in range(trajectories):
            x = noises[b]
            for before in range(3, left, -1):
                x = walked(kind, told(x, ends[before], int(labels[b])), x, ends[before], ends[before - 1])
            states.append(x), to_go.append(left), classes.append(int(labels[b]))
    for number in range(3):
        theirs, generator = torch.Generator().manual_seed(number), torch.Generator().manual_seed(number)
        if number == 0:
            torch.randn(trajectories, *SHAPE[1:], generator=theirs)
        places = torch.randperm(12, generator=theirs)[:B].tolist()
        batch = method.inputs(noisy_batch(drawn, torch.arange(B)), 0.3, generator)
        assert batch.index.tolist() == places and batch.noising.label.tolist() == [classes[p] for p in places]
        assert batch.noising.timestep.tolist() == [ends[to_go[p]] for p in places]
        torch.testing.assert_close(batch.student_input, torch.stack([states[p] for p in places]))
        step = Step(batch, 0.3, generator)
        before = pool.states.clone(), pool.to_go.clone(), generator.get_state()

        def ours(prediction, step=step, before=before):
            pool.states.copy_(before[0]), pool.to_go.copy_(before[1]), step.generator.set_state(before[2])
            return method.losses(a_view(prediction), None, step).student["output"]

        def literal(prediction, places=places):
            errors = [
                (prediction[b] - told(states[p], ends[to_go[p]], classes[p])).pow(2).sum() for b, p in enumerate(places)
            ]
            return sum(errors) / prediction.numel()

        agree(ours, literal, numbers(5, *SHAPE))
        fresh = torch.randn(SHAPE, generator=theirs).double()
        for b, p in enumerate(places):
            if to_go[p] == 1:
                states[p], to_go[p] = fresh[b], 3
            else:
                now, to = ends[to_go[p]], ends[to_go[p] - 1]
                states[p], to_go[p] = walked(kind, told(states[p], now, classes[p]), states[p], now, to), to_go[p] - 1
        torch.testing.assert_close(pool.states, torch.stack(states))
        assert pool.to_go.tolist() == to_go
    assert pool.labels.tolist() == classes


def test_a_student_of_another_width_learns_from_the_pool_alone():
    setup = Setup("dkdm", "offline", {"dkdm": {"steps": 5}}, (8, 12), "denoisers")
    other = Setup("dkdm", "offline", {"dkdm": {"steps": 5}}, (8, 12), "denoisers")
    drawn = other.batch(0)
    other.batch = lambda seed: noisy_batch(replace(drawn.noising, clean=0 * drawn.noising.clean), drawn.index)
    assert len(setup.distiller.parts["pool"].states) == 5 * 5  # 0.4 of 12 examples, five states of each trajectory
    losses = [[one.step(seed) for seed in range(30)] for one in (setup, other)]
    assert losses[0] == losses[1] and sum(losses[0][-5:]) < 0.9 * sum(losses[0][:5])


# --- DMD2 ---


class Fake(nn.Module):
    """A denoiser whose middle map is a convolution of what it is fed, as a trained copy gives both."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(2, 2, 3, padding=1).double()
        with torch.no_grad():
            self.layer.weight.copy_(0.3 * numbers(11, 2, 2, 3, 3))
            self.layer.bias.copy_(numbers(12, 2))

    def forward(self, tap, x, t):
        assert tap == "mid"
        found = self.layer(x)
        return found.tanh() + 0.01 * t.view(-1, 1, 1, 1), found


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(numbers(13, 1))

    def forward(self, found):
        return self.slope * found.sin().mean((1, 2, 3))[:, None]


def dmd2(kind, **settings):
    """The method on small networks, the student's input after one of two sampling steps, and its step's draws."""
    fake, head = Fake(), Head()
    method = registry.create(
        "dmd2", {"dmd2": {"steps": 2, "critic_steps": 1, "gan": 0.7, "critic_gan": 0.4} | settings}
    )
    method.take({"fake": fake, "head": head, "real": network(0.6), "itself": network(0.5)})
    batch = method.inputs(noisy_batch(noising(kind), torch.arange(B)), 0.3, torch.Generator().manual_seed(2))
    return method, Step(batch, 0.3, torch.Generator().manual_seed(2)), fake, head


def drawn_anew(generator, clean):
    """Timesteps between 2 and 98 % of 24, and noise, in the order in which they are drawn."""
    t = torch.randint(0, 24, (B,), generator=generator)
    return t.tolist(), torch.randn(clean.shape, generator=generator)


def noisy_at(t, clean, noise):
    (a, g) = level(t)
    return a * clean + g * noise


def softplus(x):
    return (1 + x.exp()).log()


@pytest.mark.parametrize("kind", KINDS)
def test_dmd2_moves_images_by_the_difference_of_two_denoisers_and_past_the_critic(kind):
    method, step, fake, head = dmd2(kind)
    at, state = step.noising.timestep.tolist(), step.batch.student_input

    def images(prediction):
        return torch.stack([clean_of(kind, prediction[b], state[b], t) for b, t in enumerate(at)])

    def literal(prediction):
        generator, x = torch.Generator().manual_seed(2), images(prediction)
        total = 0.0
        t, noise = drawn_anew(generator, x)
        for b in range(B):
            seen = noisy_at(t[b], x[b], noise[b]).detach()
            one = torch.tensor([t[b]])
            real = clean_of(kind, network(0.6)(seen[None], one)[0], seen, t[b])
            made = clean_of(kind, fake("mid", seen[None], one)[0][0], seen, t[b])
            towards = (made - real) / (x[b] - real).abs().mean()
            # a loss whose gradient at x is towards / n, and its value
            total += (0.5 * (x[b] - (x[b] - towards).detach()).pow(2)).sum() / x.numel()
        t, noise = drawn_anew(generator, x)
        for b in range(B):
            judged = head(fake("mid", noisy_at(t[b], x[b], noise[b])[None], torch.tensor([t[b]]))[1])
            total += 0.7 * softplus(-judged).squeeze() / B
        return total

    def ours(prediction):
        step.generator.manual_seed(2)
        return sum(method.losses(a_view(prediction), None, step).student.values())

    agree(ours, literal, numbers(5, *SHAPE))


@pytest.mark.parametrize("kind", KINDS)
def test_the_fake_network_of_dmd2_denoises_the_students_images_and_tells_them_from_data(kind):
    method, step, fake, head = dmd2(kind)
    at, state, prediction = step.noising.timestep.tolist(), step.batch.student_input, numbers(5, *SHAPE)
    x = torch.stack([clean_of(kind, prediction[b], state[b], t) for b, t in enumerate(at)])

    def literal():
        generator = torch.Generator().manual_seed(2)
        drawn_anew(generator, x), drawn_anew(generator, x)  # the student's
        (t, noise), (t_data, noise_data) = drawn_anew(generator, x), drawn_anew(generator, x)
        error = telling = 0.0
        for b in range(B):
            a, g = level(t[b])
            predicted, found = fake("mid", noisy_at(t[b], x[b], noise[b])[None], torch.tensor([t[b]]))
            wanted = {"epsilon": noise[b], "v_prediction": a * noise[b] - g * x[b], "sample": x[b]}[kind]
            error += (predicted[0] - wanted).pow(2).sum() / x.numel()
            data = noisy_at(t_data[b], step.noising.clean[b], noise_data[b])
            seen = fake("mid", data[None], torch.tensor([t_data[b]]))[1]
            telling += 0.4 * (softplus(head(found)) + softplus(-head(seen))).squeeze() / B
        return error + telling

    found, parameters = [], [*fake.parameters(), *head.parameters()]
    for loss in (lambda: sum(method.losses(a_view(prediction), None, step).parts.values()), literal):
        step.generator.manual_seed(2)
        value = loss()
        found.append((value.detach(), *torch.autograd.grad(value, parameters)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
        assert float(theirs.abs().max()) > 0


def test_inputs_of_dmd2_are_where_its_own_sampling_stands():
    """Clipped, noised anew, and never at the end; every step comes in its turn."""
    drawn, own, seen = noising("v_prediction"), network(0.5), set()
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        state, now = denoising.multistep(own, drawn, 3, generator)
        t = int(now[0])
        fresh, expected = torch.Generator().manual_seed(seed), drawn.noise
        for before, to in [(23, 15), (15, 7)][: [23, 15, 7].index(t)]:
            clean = torch.stack([
                clean_of("v_prediction", own(x[None], torch.tensor([before]))[0], x, before).clamp(-1, 1)
                for x in expected
            ])  # fmt: skip
            expected = noisy_at(to, clean, torch.randn(SHAPE, generator=fresh))
        torch.testing.assert_close(state, expected)
        seen.add(t)
    assert seen == {23, 15, 7}


def test_the_student_of_dmd2_learns_in_one_of_several_steps_and_its_terms_reach_no_critic():
    setup = Setup("dmd2", "offline", {"dmd2": {"critic_steps": 1}}, (8, 8), "denoisers")
    assert CHECKS["gradients reach what they should and nothing else"](setup) == ""
    assert setup.losses().student.keys() == {"distribution", "adversarial"}
    seldom = Setup("dmd2", "offline", {"dmd2": {"critic_steps": 5}}, (8, 8), "denoisers")
    learns = [bool(seldom.losses(seed).student) for seed in range(60)]
    assert 5 <= sum(learns) <= 20
    taught, copied = seldom.distiller.teacher.state_dict(), seldom.distiller.parts["fake"].network.state_dict()
    assert all(torch.equal(copied[key], value) for key, value in taught.items())
    weights = {key: value.clone() for key, value in seldom.distiller.student.state_dict().items()}
    seldom.step(learns.index(False))
    assert all(torch.equal(weights[key], value) for key, value in seldom.distiller.student.state_dict().items())
    assert any(not torch.equal(copied[key], taught[key]) for key in taught)
    seldom.step(learns.index(True))
    moved = seldom.distiller.student.state_dict()
    assert any(not torch.equal(weights[key], value) for key, value in moved.items())


def test_a_trained_copy_shows_prediction_and_map_and_leaves_what_it_copied():
    body = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).requires_grad_(False)
    copied, x = TrainedCopy(Network("small", body, {"middle": "1"})), torch.ones(2, 3)
    prediction, seen = copied("middle", x)
    torch.testing.assert_close(prediction, body(x))
    torch.testing.assert_close(seen, body[:2](x))
    prediction.sum().backward()
    assert all(p.grad is not None for p in copied.parameters()) and all(p.grad is None for p in body.parameters())
    with pytest.raises(AdmError, match="tap 'midle'"):
        copied("midle", x)


def test_losses_of_the_critic_are_zero_where_it_is_right():
    sure = torch.tensor([[40.0], [30.0]])
    assert float(adversarial.critic_logistic(-sure, sure)) < 1e-6
    assert float(adversarial.student_logistic(sure)) < 1e-6 < float(adversarial.student_logistic(-sure))


def test_in_low_precision_an_optimiser_without_gradients_waits():
    """GradScaler refuses one; a method may train its parts alone in a step."""
    one, two = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizers = [torch.optim.Adam([p], lr=0.1) for p in (one, two)]
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for clip in (None, 1.0):
        scaler.scale(two.square().sum()).backward()
        update(optimizers, [[one], [two]], clip, scaler)
    assert torch.equal(one, torch.ones(2)) and bool((two < 1).all())
