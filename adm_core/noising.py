"""How clean examples are noised, ``x_t = α_t x_0 + σ_t ε``, and what a denoiser's prediction says about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction", "sample"]
"""What a denoiser predicts, in Diffusers' words: the noise ε, the velocity ``v = α ε - σ x_0``, or the clean x_0."""


@dataclass(frozen=True)
class NoiseProcess:
    """A variance-preserving noise schedule over discrete timesteps, and conversions of predictions.

    Examples, noise and predictions are [B, C, H, W]; timesteps are int64 [B] in [0, T). The timestep -1 means the
    clean example itself (α = 1, σ = 0).

    Attributes:
        alphas: α_t, [T], falling.
        sigmas: σ_t, [T], rising; ``α² + σ² = 1``.
        prediction: what the denoisers predict.
    """

    alphas: Tensor
    sigmas: Tensor
    prediction: PredictionType

    def __len__(self) -> int:
        return len(self.alphas)

    def levels(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """α and σ at timesteps [B], as [B, 1, 1, 1]."""
        clean = timestep < 0
        index = timestep.clamp_min(0)
        alpha = self.alphas[index].masked_fill(clean, 1.0)
        sigma = self.sigmas[index].masked_fill(clean, 0.0)
        return alpha.view(-1, 1, 1, 1), sigma.view(-1, 1, 1, 1)

    def snr(self, timestep: Tensor) -> Tensor:
        """The signal-to-noise ratio ``α² / σ²``, [B]."""
        return (self.alphas[timestep] / self.sigmas[timestep]).pow(2)

    def noisy(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """``x_t``."""
        alpha, sigma = self.levels(timestep)
        return alpha * clean + sigma * noise

    def target(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """What a perfect denoiser would predict."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "sample":
            return clean
        alpha, sigma = self.levels(timestep)
        return alpha * noise - sigma * clean

    def clean(self, prediction: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        """The clean example that a prediction at ``x_t`` means."""
        if self.prediction == "sample":
            return prediction
        alpha, sigma = self.levels(timestep)
        if self.prediction == "epsilon":
            return (noisy - sigma * prediction) / alpha
        return alpha * noisy - sigma * prediction

    def noise(self, prediction: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        """The noise that a prediction at ``x_t`` means."""
        if self.prediction == "epsilon":
            return prediction
        alpha, sigma = self.levels(timestep)
        if self.prediction == "sample":
            return (noisy - alpha * prediction) / sigma
        return sigma * noisy + alpha * prediction

    def step(self, prediction: Tensor, noisy: Tensor, timestep: Tensor, to: Tensor) -> Tensor:
        """One deterministic DDIM step from ``x_t`` to an earlier timestep (arXiv:2010.02502, eq. 12 with η = 0).

        Nothing is clipped: this is the step of distillation's targets, which progressive distillation's authors leave
        unclipped (``clip_x=False``) where their sampler clips. The step of sampling is the task's.

        Args:
            prediction: at ``x_t``.
            noisy: ``x_t``.
            timestep: t, [B].
            to: the earlier timestep, [B]; -1 gives the clean example.
        """
        alpha, sigma = self.levels(to)
        return alpha * self.clean(prediction, noisy, timestep) + sigma * self.noise(prediction, noisy, timestep)


@dataclass(frozen=True)
class Noising:
    """How the inputs of one batch came about, for methods that need more than the prediction.

    Attributes:
        process: the noise schedule.
        clean: x_0, [B, C, H, W], in [-1, 1].
        noise: ε, of the same shape.
        timestep: t, int64 [B].
        label: what the networks are told of each example beside its timestep, int64 [B]; None: nothing.
        null_label: the label that means no class; None where the networks know of none.
        classifier: a frozen classifier of the benchmark's images, made beforehand and no part of the networks:
            images [B, C, H, W] in [-1, 1] → (features [B, D], logits [B, K]); None where the task has none.
    """

    process: NoiseProcess
    clean: Tensor
    noise: Tensor
    timestep: Tensor
    label: Tensor | None = None
    classifier: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    null_label: int | None = None

    @property
    def noisy(self) -> Tensor:
        """``x_t``."""
        return self.process.noisy(self.clean, self.noise, self.timestep)

    @property
    def target(self) -> Tensor:
        """What a perfect denoiser would predict at ``x_t``."""
        return self.process.target(self.clean, self.noise, self.timestep)

    def means(self, prediction: Tensor) -> Tensor:
        """The clean example that a prediction at ``x_t`` means."""
        return self.process.clean(prediction, self.noisy, self.timestep)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What a network is given: ``x_t``, the timestep, and the label where there is one."""
        return (self.noisy, *self.conditions(self.timestep))

    def conditions(self, timestep: Tensor) -> tuple[Tensor, ...]:
        """What a network is given beside noisy inputs at a timestep [B]."""
        return (timestep,) if self.label is None else (timestep, self.label)

    def chunk(self, count: int) -> list[Noising]:
        """The batch in ``count`` equal parts."""
        names = [name for name in ("clean", "noise", "timestep", "label") if getattr(self, name) is not None]
        parts = zip(*(getattr(self, name).chunk(count) for name in names), strict=True)
        return [replace(self, **dict(zip(names, part, strict=True))) for part in parts]
