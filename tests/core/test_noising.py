"""Noising and what predictions mean: round trips, DDIM's formula, Diffusers' timesteps, batches in parts."""

import math
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler

from adm_core.batch import Batch, noisy_batch
from adm_core.losses import denoising
from adm_core.noising import NoiseProcess, Noising

T, B = 20, 6
KINDS = ("epsilon", "v_prediction", "sample")
ANGLE = torch.linspace(0.05, 0.49, T, dtype=torch.float64) * torch.pi


def process(kind="epsilon"):
    return NoiseProcess(ANGLE.cos(), ANGLE.sin(), kind)


def images(seed):
    return torch.randn(B, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def noising(kind="epsilon", label=None):
    return Noising(process(kind), images(0), images(1), torch.tensor([0, 3, 7, 11, 16, 19]), label)


@pytest.mark.parametrize("kind", KINDS)
def test_the_target_means_the_clean_example_and_the_noise_it_came_from(kind):
    n = noising(kind)
    torch.testing.assert_close(n.process.clean(n.target, n.noisy, n.timestep), n.clean)
    torch.testing.assert_close(n.process.noise(n.target, n.noisy, n.timestep), n.noise)


@pytest.mark.parametrize("kind", KINDS)
def test_any_prediction_is_the_target_of_the_example_and_noise_that_it_means(kind):
    n, prediction = noising(kind), images(2)
    clean, noise = (f(prediction, n.noisy, n.timestep) for f in (n.process.clean, n.process.noise))
    torch.testing.assert_close(n.process.target(clean, noise, n.timestep), prediction)
    torch.testing.assert_close(n.process.noisy(clean, noise, n.timestep), n.noisy)


def test_targets_are_the_textbooks():
    n = noising()
    for b, t in enumerate(n.timestep.tolist()):
        alpha, sigma = math.cos(ANGLE[t]), math.sin(ANGLE[t])
        torch.testing.assert_close(n.noisy[b], alpha * n.clean[b] + sigma * n.noise[b])
        v = replace(n, process=process("v_prediction")).target[b]
        torch.testing.assert_close(v, alpha * n.noise[b] - sigma * n.clean[b])
        assert float(n.process.snr(n.timestep)[b]) == pytest.approx((alpha / sigma) ** 2)
    assert n.target is n.noise and replace(n, process=process("sample")).target is n.clean


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_the_formula_of_ddim(kind):
    """Per example, by scalars: x_s = α_s (x - σ_t ε) / α_t + σ_s ε, the prediction first brought to ε by hand."""
    n, prediction, to = noising(kind), images(3), torch.tensor([-1, 1, 3, 10, 8, -1])
    made = n.process.step(prediction, n.noisy, n.timestep, to)
    for b, (t, s) in enumerate(zip(n.timestep.tolist(), to.tolist(), strict=True)):
        a, g = math.cos(ANGLE[t]), math.sin(ANGLE[t])
        a_s, g_s = (math.cos(ANGLE[s]), math.sin(ANGLE[s])) if s >= 0 else (1.0, 0.0)
        x, p = n.noisy[b], prediction[b]
        eps = {"epsilon": p, "v_prediction": g * x + a * p, "sample": (x - a * p) / g}[kind]
        torch.testing.assert_close(made[b], a_s * (x - g * eps) / a + g_s * eps)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_that_of_diffusers(kind):
    scheduler = DDIMScheduler(prediction_type=kind, clip_sample=False, timestep_spacing="trailing")
    kept = scheduler.alphas_cumprod.double()
    scheduler.alphas_cumprod, own = kept, NoiseProcess(kept.sqrt(), (1 - kept).sqrt(), kind)
    scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    scheduler.set_timesteps(4)
    x, prediction = images(4), images(5)
    for now, then in zip((999, 749, 499, 249), (749, 499, 249, -1), strict=True):
        theirs = scheduler.step(prediction, now, x).prev_sample
        ours = own.step(prediction, x, torch.full((B,), now), torch.full((B,), then))
        torch.testing.assert_close(ours, theirs)


def test_the_timestep_minus_one_is_the_clean_example():
    p, before = process(), torch.full((B,), -1)
    assert torch.equal(p.noisy(images(0), images(1), before), images(0))
    n = noising("v_prediction")
    made = n.process.step(images(2), n.noisy, n.timestep, before)
    assert torch.equal(made, n.process.clean(images(2), n.noisy, n.timestep))


@pytest.mark.parametrize("timesteps", [1000, 100, 20])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 7, 8, 10, 16, 18, 20])
def test_step_ends_are_diffusers_trailing_timesteps(timesteps, steps):
    scheduler = DDIMScheduler(num_train_timesteps=timesteps, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    ends = denoising.step_ends(timesteps, steps, torch.arange(steps, -1, -1))
    assert ends.tolist() == [*scheduler.timesteps.tolist(), -1]
    assert torch.equal(denoising.later(ends[:-1], timesteps, steps, 1.0), ends[1:])
    if 2 * steps <= timesteps:  # half a step on stand the timesteps of twice as many
        twice = denoising.step_ends(timesteps, 2 * steps, torch.arange(2 * steps, -1, -1))
        assert torch.equal(denoising.later(ends[:-1], timesteps, steps, 0.5), twice[1::2])


def test_drawn_steps_are_uniform_from_the_last_to_the_first():
    drawn = denoising.draw_steps(4000, 4, torch.Generator().manual_seed(0))
    assert drawn.unique().tolist() == [1, 2, 3, 4] and torch.bincount(drawn)[1:].min() > 900


@pytest.mark.parametrize("label", [None, torch.tensor([4, 0, 2, 2, 1, 3])], ids=["plain", "conditional"])
def test_parts_of_a_noisy_batch_are_noisy_batches(label):
    whole = noisy_batch(noising("v_prediction", label), torch.arange(B) + 10)
    parts = list(whole.chunks(3))
    assert [len(part.index) for part in parts] == [2, 2, 2] and whole.levels == parts[0].levels == T
    for k, part in enumerate(parts):
        assert part.student_input is part.teacher_input and len(part.conditions) == len(whole.conditions)
        assert torch.equal(part.noising.noisy, part.student_input) and torch.equal(part.noising.target, part.target)
        for own, all_of_it in zip(part.conditions, whole.conditions, strict=True):
            assert torch.equal(own, all_of_it[2 * k : 2 * k + 2])
        assert torch.equal(part.index, whole.index[2 * k : 2 * k + 2])


def test_a_batch_at_other_timesteps_keeps_examples_noise_and_labels():
    whole = noisy_batch(noising("epsilon", torch.arange(B)), torch.arange(B))
    other = torch.tensor([5, 5, 1, 0, 19, 2])
    moved = whole.at_timestep(other)
    assert torch.equal(moved.student_input, whole.noising.process.noisy(images(0), images(1), other))
    assert torch.equal(moved.conditions[0], other) and torch.equal(moved.conditions[1], torch.arange(B))
    assert torch.equal(moved.target, whole.target) and torch.equal(moved.index, whole.index)
    with pytest.raises(ValueError, match="no timesteps"):
        Batch(images(0), images(0), torch.arange(B), torch.arange(B)).at_timestep(other)
