"""ECT and SFD in float64 against literal loops over examples, values and gradients; what they follow over time."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from adm_core import registry
from adm_core.batch import noisy_batch
from adm_core.losses import denoising
from adm_core.method import Step
from adm_core.noising import NoiseProcess, Noising
from adm_core.testing.setup import Setup
from tests.core.literal import numbers, view
from tests.core.test_methods_relations import agree

B, SHAPE, LEVELS = 6, (6, 2, 3, 3), 24
KINDS = ("epsilon", "v_prediction", "sample")
ANGLE = torch.linspace(0.05, 1.5, LEVELS, dtype=torch.float64)


def noising(kind):
    process = NoiseProcess(ANGLE.cos(), ANGLE.sin(), kind)
    return Noising(process, numbers(0, *SHAPE).clamp(-1, 1), numbers(1, *SHAPE), torch.arange(B))


def network(slope):
    """A denoiser of one number, which is also called on single examples."""
    return lambda x, t: slope * (x + 0.3 * x.pow(2)) + 0.01 * t.view(-1, 1, 1, 1)


def level(t):
    return (math.cos(float(ANGLE[t])), math.sin(float(ANGLE[t]))) if t >= 0 else (1.0, 0.0)


def clean_of(kind, prediction, x, t):
    a, g = level(t)
    return {"epsilon": (x - g * prediction) / a, "v_prediction": a * x - g * prediction, "sample": prediction}[kind]


def walked(kind, prediction, x, t, to):
    """One DDIM step of one example."""
    (a, g), (a_end, g_end) = level(t), level(to)
    clean = clean_of(kind, prediction, x, t)
    return a_end * clean + g_end * (x - a * clean) / g


def prepared(name, kind, parts, **settings):
    method = registry.create(name, {name: settings})
    method.take(parts)
    generator = torch.Generator().manual_seed(7)
    batch = method.inputs(noisy_batch(noising(kind), torch.arange(B)), 0.3, generator)
    return method, Step(batch, 0.3, generator)


def agrees(method, step, term, literal):
    def ours(prediction):
        shown = replace(view(prediction.flatten(1), torch.zeros(B, dtype=torch.int64)), prediction=prediction)
        return method.losses(replace(shown, kind="denoiser"), None, step).student[term]

    agree(ours, literal, numbers(5, *SHAPE))


class Given:
    """Clean examples and noise, and one example at any timestep."""

    def __init__(self, drawn):
        self.clean, self.noise = drawn.clean, drawn.noise

    def at(self, t, b):
        a, g = level(t)
        return a * self.clean[b] + g * self.noise[b]


@pytest.mark.parametrize("c", [0.0, 0.4])
@pytest.mark.parametrize("kind", KINDS)
def test_ect_is_a_loop_over_examples_at_two_levels(kind, c):
    method, step = prepared("ect", kind, {"itself": network(0.7)}, huber=c, mean=0.0)
    ratios = [math.tan(float(a)) for a in ANGLE]
    at, given, pairs = step.noising.timestep.tolist(), Given(noising(kind)), set()

    def literal(prediction):
        total = 0.0
        for b, t in enumerate(at):
            # progress 0.3 of eight stages is the third
            wanted = ratios[t] * (1 - (1 + 8 / (1 + math.exp(ratios[t]))) / 2**3)
            below = [s for s in range(LEVELS) if ratios[s] <= wanted]
            target, lower = given.clean[b], 0.0
            if below:
                (a, g), lower = level(below[-1]), ratios[below[-1]]
                x = a * given.clean[b] + g * given.noise[b]
                guess = network(0.7)(x[None], torch.tensor([below[-1]]))[0]
                target = clean_of(kind, guess, x, below[-1])
            pairs.add((t, below[-1] if below else -1))
            own = clean_of(kind, prediction[b], given.at(t, b), t)
            total += (((own - target).pow(2).sum() + c * c).sqrt() - c) / (ratios[t] - lower)
        return total / B

    agrees(method, step, "consistency", literal)
    assert any(r < 0 for _, r in pairs) and any(r >= 0 for _, r in pairs)


def test_levels_of_ect_draw_nearer_from_stage_to_stage_and_never_meet():
    ratios = torch.linspace(0.01, 80, 500, dtype=torch.float64)
    lower = [denoising.nearer_ratio(ratios, 0.5 ** (stage + 1)) for stage in range(8)]
    assert all(bool((b >= a).all()) for a, b in itertools.pairwise(lower))
    assert bool((lower[-1] < ratios).all()) and float(lower[0][0]) == 0.0


def test_the_norm_of_no_difference_has_no_gradient_that_is_not_a_number():
    same = numbers(0, 2, 3, 2, 2).requires_grad_()
    denoising.huber_norm(same, same.detach(), 0.0).sum().backward()
    assert not same.grad.any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 3])
def test_sfd_is_a_loop_over_the_steps_of_both(kind, steps):
    student, teacher = network(0.5), network(0.6)
    method, step = prepared("sfd", kind, {"itself": student, "teacher": teacher}, steps=steps, between=1)
    noise, ends = noising(kind).noise, {1: [23, -1], 3: [23, 15, 7, -1]}[steps]
    finer = {1: [23, 11, -1], 3: [23, 19, 15, 11, 7, 3, -1]}[steps]
    done = ends.index(int(step.noising.timestep[0]))

    def follow(denoiser, x, grid):
        for t, to in itertools.pairwise(grid):
            x = walked(kind, denoiser(x[None], torch.tensor([t]))[0], x, t, to)
        return x

    def literal(prediction):
        total = 0.0
        for b in range(B):
            state = follow(student, noise[b], ends[: done + 1])
            torch.testing.assert_close(step.batch.student_input[b], state)
            own = walked(kind, prediction[b], state, ends[done], ends[done + 1])
            other = follow(teacher, noise[b], finer[: 2 * (done + 1) + 1])
            total += ((own - other) / level(ends[done + 1])[0]).abs().sum()
        return total / prediction.numel()

    agrees(method, step, "trajectory", literal)


def test_sfd_trains_every_step_in_its_turn():
    method = registry.create("sfd", {"sfd": {"steps": 4}})
    drawn = {method._done(torch.Generator().manual_seed(seed)) for seed in range(40)}
    assert drawn == {0, 1, 2, 3}


@pytest.mark.parametrize("name", ["ect", "sfd"])
def test_the_constant_student_follows_and_the_teacher_stays(name):
    bench = Setup(name, "offline", {}, (8, 8), "denoisers")
    start = {key: value.clone() for key, value in bench.distiller.student.state_dict().items()}
    bench.step(0)
    moved = bench.distiller.student.state_dict()
    copied = bench.distiller.parts["itself"].network.state_dict()
    assert all(torch.equal(copied[key], value) for key, value in moved.items())
    assert any(not torch.equal(start[key], value) for key, value in moved.items())
    if name == "sfd":
        taught = bench.distiller.parts["teacher"].network.state_dict()
        assert all(torch.equal(taught[key], value) for key, value in start.items())


def test_sfd_learns_to_do_in_few_steps_what_the_teacher_does_in_many():
    bench = Setup("sfd", "offline", {"sfd": {"steps": 2, "between": 4}}, (8, 8), "denoisers")

    def error():
        return sum(float(bench.losses(seed).student["trajectory"].detach()) for seed in range(4))

    before = error()
    for seed in range(40):
        bench.step(seed)
    assert error() < 0.95 * before
