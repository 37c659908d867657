"""Sampling from denoisers: deterministic DDIM by Diffusers, or multistep sampling of consistency models.

Initial noises are the same for all students, and so are those that multistep sampling adds on its way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn

from adm_core.card import Sampler
from adm_core.errors import AdmError, Diverged, unknown
from adm_core.noising import NoiseProcess, PredictionType
from adm_core.seeds import derive
from tasks.diffusion.data_settings import SCHEDULES


@dataclass(frozen=True)
class Schedule:
    """How images are noised and what the denoisers predict; the noise process and the sampler both follow from it.

    Attributes:
        name: ``linear`` (β from 0.0001 to 0.02) or ``cosine``.
        timesteps: T.
        prediction: ``epsilon``, ``v_prediction`` or ``sample``.

    Raises:
        AdmError: a name is unknown, or there are fewer than 10 timesteps.
    """

    name: str = "linear"
    timesteps: int = 1000
    prediction: PredictionType = "epsilon"

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise unknown("noise schedule", self.name, SCHEDULES)
        if self.prediction not in get_args(PredictionType):
            raise unknown("prediction type", self.prediction, get_args(PredictionType))
        if self.timesteps < 10:
            raise AdmError(f"noise schedule: timesteps must be 10 or more, not {self.timesteps}")

    def scheduler(self) -> DDIMScheduler:
        """Diffusers' DDIM scheduler (arXiv:2010.02502); its steps begin at T-1 (``trailing``) and end at the image.

        At each step the image that the prediction means is clipped to [-1, 1], as DDPM does. The noise must be that of
        the clipped image: every call of its ``step`` here has ``use_clipped_model_output=True``, which a scheduler's
        configuration cannot say.
        """
        scheduler: DDIMScheduler = DDIMScheduler(
            num_train_timesteps=self.timesteps,
            beta_schedule=SCHEDULES[self.name],
            prediction_type=self.prediction,
            timestep_spacing="trailing",
            clip_sample=True,
        )
        return scheduler

    def process(self, device: torch.device | str = "cpu") -> NoiseProcess:
        """The same schedule for training: α and σ as the scheduler has them."""
        retained = self.scheduler().alphas_cumprod.to(device)
        return NoiseProcess(retained.sqrt(), (1 - retained).sqrt(), self.prediction)

    def check_steps(self, steps: int) -> None:
        """Refuse a number of sampling steps that is no divisor of T.

        Diffusers steps by the whole part of T / steps, so that otherwise the steps neither meet nor end at the image.

        Raises:
            AdmError: says which numbers near it are possible.
        """
        if steps > 0 and self.timesteps % steps == 0:
            return
        possible = [n for n in range(1, self.timesteps + 1) if self.timesteps % n == 0]
        near = sorted(sorted(possible, key=lambda n: abs(n - steps))[:3])
        raise AdmError(
            f"sampling in {steps} steps: it must be a divisor of the {self.timesteps} timesteps, "
            f"such as {', '.join(map(str, near))}"
        )


def initial_noise(count: int, channels: int, size: int, split: str = "test") -> Tensor:
    """The noises that sampling starts from, float32 [N, C, S, S] on the CPU; for each split others, always the same.

    Args:
        count: N.
        channels: C.
        size: S.
        split: ``test``, whose scores are reported, or ``validation``, by which settings and epochs are chosen.
    """
    return _drawn((count, channels, size, size), *(["initial noise"] if split == "test" else ["initial noise", split]))


def _drawn(shape: Sequence[int], *what: str | int) -> Tensor:
    """Noise that follows from what it is for; of fewer images the first ones."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(derive(0, *what)))


class Guided(nn.Module):
    """A denoiser under classifier-free guidance: ``(1 + w) p_c - w p_u`` (arXiv:2207.12598, eq. 6), two passes a step.

    Args:
        denoiser: as :func:`sample` takes it; p_c is what it predicts when it is told the class, p_u when told none.
        strength: w.
        untold: the label that means no class.
    """

    def __init__(self, denoiser: nn.Module, strength: float, untold: int) -> None:
        super().__init__()
        self.denoiser, self._strength, self._untold = denoiser, strength, untold

    def forward(self, noisy: Tensor, timestep: Tensor, label: Tensor) -> Tensor:
        """The guided prediction [B, C, H, W]."""
        without = self.denoiser(noisy, timestep, torch.full_like(label, self._untold))
        return torch.lerp(without, self.denoiser(noisy, timestep, label), 1 + self._strength)


def sample(
    denoiser: nn.Module,
    noise: Tensor,
    schedule: Schedule,
    steps: int,
    labels: Tensor | None = None,
    batch_size: int = 256,
    sampler: Sampler = "ddim",
) -> Tensor:
    """Images that a denoiser makes of noises, in float32.

    ``x_s = α_s x_0 + σ_s ε``, x_0 the clipped image that the prediction at x_t means. By deterministic DDIM (η = 0)
    ``ε = (x_t - α_t x_0) / σ_t``; in multistep sampling ε is fresh noise.

    Args:
        denoiser: (noisy [B, C, H, W], timestep int64 [B], label int64 [B] or None) → prediction; it is put in
            evaluation mode.
        noise: [N, C, H, W], on the denoiser's device.
        schedule: with which it was trained.
        steps: a divisor of the schedule's T.
        labels: int64 [N], the class to make of each noise; None for a denoiser without classes.
        batch_size: images at a time.
        sampler: ``ddim`` or ``multistep``.

    Returns:
        [N, C, H, W] in [-1, 1], on the same device.

    Raises:
        Diverged: a value is not finite; says in how many steps.
        AdmError: the number of steps is impossible.
    """
    schedule.check_steps(steps)
    scheduler, process = schedule.scheduler(), schedule.process(noise.device)
    scheduler.set_timesteps(steps)
    denoiser.eval()
    samples = noise.float()
    with torch.inference_mode(), torch.autocast(noise.device.type, enabled=False):
        for timestep in scheduler.timesteps.tolist():
            made = []
            fresh = _drawn(noise.shape, "fresh noise", timestep).to(noise.device) if sampler == "multistep" else noise
            for start in range(0, len(noise), batch_size):
                part = slice(start, start + batch_size)
                images, label = samples[part], None if labels is None else labels[part]
                at = torch.full((len(images),), timestep, device=images.device)
                predicted = denoiser(images, at, label)
                if sampler == "multistep":
                    clean = process.clean(predicted, images, at).clamp(-1, 1)
                    made.append(process.noisy(clean, fresh[part], at - schedule.timesteps // steps))
                else:
                    made += scheduler.step(
                        predicted, timestep, images, use_clipped_model_output=True, return_dict=False
                    )[:1]
            samples = torch.cat(made)
        if not bool(samples.isfinite().all()):
            broken = int((~samples.isfinite()).flatten(1).any(1).sum())
            raise Diverged(
                f"sampling in {steps} steps: {broken} of {len(samples)} images hold values that are not finite"
            )
        return samples.clamp_(-1, 1)
