"""Losses on the predictions of denoisers, and the targets of step distillation. Images and noise are [B, C, H, W]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Generator, Tensor

from adm_core.noising import NoiseProcess, Noising
from adm_core.seeds import derive


def step_ends(timesteps: int, steps: int, index: Tensor) -> Tensor:
    """The timestep at which sampling in equal steps has ``index`` of them to go: ``round(index T / steps) - 1``.

    These are the timesteps of Diffusers' ``trailing`` spacing; index ``steps`` is the start, pure noise, and index 0 is
    -1, the clean example.

    Args:
        timesteps: T, of the noise schedule.
        steps: how many steps sampling takes.
        index: [B], 0 to ``steps``; halves stand between two steps.
    """
    return (index.double() * timesteps / steps).round().long() - 1


def later(timestep: Tensor, timesteps: int, steps: int, by: float) -> Tensor:
    """The timestep ``by`` sampling steps after one that :func:`step_ends` gave, [B]."""
    index = ((timestep + 1) * steps / timesteps).round()
    return step_ends(timesteps, steps, index - by)


def draw_steps(batch: int, steps: int, generator: Generator) -> Tensor:
    """Which of ``steps`` sampling steps each example is at: int64 [B], 1 (the last) to ``steps`` (the first)."""
    return torch.randint(1, steps + 1, (batch,), generator=generator, device=generator.device)


def trajectory(network: Callable[..., Tensor], noising: Noising, start: Tensor, steps: int, count: int) -> Tensor:
    """Where the first ``count`` of ``steps`` DDIM steps of a network lead, from noise at the last timestep.

    Args:
        network: called on noisy examples, timesteps and what else a denoiser is given.
        noising: of the batch; its own timesteps do not matter.
        start: the noise, [B, C, H, W].
        steps: of sampling in equal steps (:func:`step_ends`).
        count: at most ``steps``, which gives clean examples.
    """
    process, state = noising.process, start
    index = torch.full_like(noising.timestep, steps)
    for _ in range(count):
        now, end = (step_ends(len(process), steps, at) for at in (index, index - 1))
        state = process.step(network(state, *noising.conditions(now)), state, now, end)
        index = index - 1
    return state


def multistep(
    network: Callable[..., Tensor], noising: Noising, steps: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Where multistep sampling stands before one of its steps, which the generator's seed decides for all examples.

    Each step predicts the clean example, clips it to [-1, 1] and noises it anew to the next timestep
    (arXiv:2303.01469, algorithm 1).

    Args:
        network: called on noisy examples, timesteps and what else a denoiser is given.
        noising: of the batch, whose noise is the start; its own timesteps do not matter.
        steps: of sampling in equal steps (:func:`step_ends`).
        generator: of the fresh noises.

    Returns:
        The noisy examples [B, C, H, W] and their timestep [B].
    """
    process, state = noising.process, noising.noise
    done = derive(generator.initial_seed(), "multistep") % steps
    now = step_ends(len(process), steps, torch.full_like(noising.timestep, steps))
    for _ in range(done):
        clean = process.clean(network(state, *noising.conditions(now)), state, now).clamp(-1, 1)
        now = later(now, len(process), steps, 1.0)
        state = process.noisy(clean, _drawn(clean, generator), now)
    return state, now


def noised_anew(noising: Noising, clean: Tensor, generator: Generator) -> Noising:
    """Examples under fresh noise of random timesteps, of the middle 96 % of the schedule as in DMD's code.

    Args:
        noising: of the batch; labels and schedule are taken.
        clean: [B, C, H, W].
        generator: of noise and timesteps.
    """
    levels = len(noising.process)
    low, high = int(0.02 * levels), int(0.98 * levels)
    timestep = torch.randint(low, high + 1, (len(clean),), generator=generator, device=generator.device)
    return replace(noising, clean=clean, noise=_drawn(clean, generator), timestep=timestep)


def _drawn(like: Tensor, generator: Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=generator.device)


def distribution_matching(x: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """``½ mean (x - sg(x - g))²``, whose gradient at x is ``g = (fake - real) / mean |x - real|``, over their number.

    Yin et al., arXiv:2311.18828, eq. 7 and 8: the difference of two scores, weighted so that all timesteps count alike.
    The mean in g is over each example.

    Args:
        x: generated examples, [B, C, H, W].
        real: what a denoiser of the data makes of x, noised.
        fake: what one of generated examples makes of it.
    """
    size = (x.detach() - real).abs().mean((1, 2, 3), keepdim=True)
    towards = x.detach() - (fake - real) / size
    return 0.5 * (x - towards.detach()).pow(2).mean()


def noise_ratios(process: NoiseProcess) -> Tensor:
    """``σ_t / α_t`` of every timestep, [T], rising: the standard deviation of the noise on an unscaled example."""
    return process.sigmas / process.alphas


def nearer_ratio(ratio: Tensor, share: float) -> Tensor:
    """``t (1 - share (1 + 8 sigmoid(-t)))``, at least 0: the lower of two levels of noise that ECT compares.

    Geng et al., arXiv:2406.14548, the mapping of the authors' code with its k = 8 and b = 1.

    Args:
        ratio: t, of any shape.
        share: 1 / 2 at first, half of that in each further stage.
    """
    return (ratio * (1 - share * (1 + 8 * (-ratio).sigmoid()))).clamp_min(0)


def huber_norm(a: Tensor, b: Tensor, c: float) -> Tensor:
    """``√(||a - b||² + c²) - c`` of each example, [B]; without a gradient where c is 0 and the two are equal."""
    difference = torch.nn.functional.pad((a - b).flatten(1), (0, 1), value=c)
    length: Tensor = torch.linalg.vector_norm(difference, dim=1)
    return length - c


def two_step_target(noising: Noising, network: Callable[..., Tensor], middle: Tensor, end: Tensor) -> Tensor:
    """The clean example that takes one DDIM step from ``x_t`` to where the teacher's two steps lead.

    ``x~ = (z'' - (σ''/σ_t) x_t) / (α'' - (σ''/σ_t) α_t)`` (Salimans & Ho, arXiv:2202.00512, appendix G).

    Args:
        noising: of the batch, at t.
        network: the teacher, called on noisy examples, timesteps and what else a denoiser is given.
        middle: timestep after the teacher's first step, [B].
        end: after its second, [B]; -1: the clean example.
    """
    process, start, now = noising.process, noising.noisy, noising.timestep
    halfway = process.step(network(start, *noising.conditions(now)), start, now, middle)
    last = process.step(network(halfway, *noising.conditions(middle)), halfway, middle, end)
    alpha, sigma = process.levels(now)
    alpha_end, sigma_end = process.levels(end)
    ratio = sigma_end / sigma
    return (last - ratio * start) / (alpha_end - ratio * alpha)


def truncated_snr_error(process: NoiseProcess, clean: Tensor, target: Tensor, timestep: Tensor) -> Tensor:
    """Mean squared error of clean examples weighted by ``max(SNR, 1)`` (arXiv:2202.00512, section 4).

    By the SNR alone where networks predict noise, which makes it the squared error of the noise (the same section, and
    ``mean_loss_weight_type: snr`` of the authors' code): the error of the clean example that a predicted noise means
    has no bound as α falls to 0.

    Args:
        process: the noise schedule.
        clean: what the student predicts.
        target: what it should predict.
        timestep: [B].
    """
    error = (clean - target).pow(2).flatten(1).mean(1)
    snr = process.snr(timestep)
    return ((snr if process.prediction == "epsilon" else snr.clamp_min(1.0)) * error).mean()


def pseudo_huber(a: Tensor, b: Tensor, c: float) -> Tensor:
    """``mean √((a - b)² + c²) - c``: squared error near zero, absolute error far from it."""
    return ((a - b).pow(2) + c * c).sqrt().mean() - c


def entropy(probabilities: Tensor) -> Tensor:
    """``-Σ_k p_k log p_k`` along the last dimension."""
    p = probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny)  # log 0 has no finite gradient
    return -(p * p.log()).sum(-1)
