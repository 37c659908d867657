"""Cleaning a student's features by a diffusion model of its teacher's."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from adm_core.noising import NoiseProcess

LEVELS = 1000
"""Timesteps of the noise schedule."""
START, STRIDE = 400, 100
"""The timestep from which a student's features are cleaned, and how far a step goes."""


class Refinement(nn.Module):
    """A student's features as the start of a diffusion model that is trained on the teacher's (arXiv:2305.15712).

    Noise is that of a schedule whose variances rise linearly from 1e-4 to 0.02 over 1,000 timesteps. Convolutions whose
    bias batch norm would remove have none; the authors' have.

    Args:
        own: channels of the student's features.
        width: channels of the teacher's.
        spatial: whether neighbouring positions matter, as in maps; of logits each position stands for itself.
    """

    alphas: Tensor
    sigmas: Tensor

    def __init__(self, own: int, width: int, spatial: bool) -> None:
        super().__init__()
        kept = (1 - torch.linspace(1e-4, 0.02, LEVELS, dtype=torch.float64)).cumprod(0)
        self.register_buffer("alphas", kept.sqrt().float(), persistent=False)
        self.register_buffer("sigmas", (1 - kept).sqrt().float(), persistent=False)
        self.enter = nn.Conv2d(own, width, 1)
        self.adapter = nn.Sequential(*_adapter(width, spatial), nn.Conv2d(width, 2, 1))
        self.time = nn.Embedding(LEVELS, width)
        self.denoiser = nn.Sequential(*_denoiser(width, spatial))
        self.leave = nn.Sequential(*_normalised(width, width))

    def forward(self, student: Tensor, teacher: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """The student's features cleaned, and what the denoiser gets wrong about the noise on the teacher's.

        ``γ u + (1 - γ) ε`` is taken for the teacher's features at timestep 400 and goes five DDIM steps to clean ones;
        u are the student's features in the teacher's width, γ what an adapter finds in them, one for each example of
        maps and one for each position of logits.

        Args:
            student: [B, C_s, H, W].
            teacher: [B, C, H, W], a constant.
            generator: randomness, on their device.

        Returns:
            The cleaned features and the squared error of the noise at a random timestep, both [B, C, H, W].
        """
        process = NoiseProcess(self.alphas, self.sigmas, "epsilon")
        features, start = self.enter(student), _noise_like(teacher, generator)
        share = self.adapter(features).softmax(1)[:, :1]
        features = share * features + (1 - share) * start
        for level in range(START, -1, -STRIDE):
            timestep = torch.full((len(student),), level, device=student.device)
            features = process.step(self._predict(features, timestep), features, timestep, timestep - STRIDE)
        noise = _noise_like(teacher, generator)
        timestep = torch.randint(LEVELS, (len(teacher),), generator=generator, device=teacher.device)
        predicted = self._predict(process.noisy(teacher, noise, timestep), timestep)
        return self.leave(features), (predicted - noise).pow(2)

    def _predict(self, noisy: Tensor, timestep: Tensor) -> Tensor:
        predicted: Tensor = self.denoiser(noisy + self.time(timestep)[:, :, None, None])
        return predicted


class _Bottleneck(nn.Module):
    """``x + f(x)``, f in a width that is ``factor`` times smaller, two at least."""

    def __init__(self, width: int, factor: int) -> None:
        super().__init__()
        inner = max(width // factor, 2)  # the next batch norm would undo the scale of a single channel
        middle = _normalised(inner, inner, kernel=3)
        ends = _normalised(width, inner), _normalised(inner, width)
        self.layers = nn.Sequential(*ends[0], nn.ReLU(), *middle, nn.ReLU(), *ends[1])

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.layers(x)
        return result


def _adapter(width: int, spatial: bool) -> list[nn.Module]:
    if spatial:
        return [_Bottleneck(width, 8), nn.AdaptiveAvgPool2d(1)]
    return [*_normalised(width, 2 * width), nn.ReLU(), *_normalised(2 * width, width)]


def _denoiser(width: int, spatial: bool) -> list[nn.Module]:
    if spatial:
        return [_Bottleneck(width, 4), _Bottleneck(width, 4), *_normalised(width, width)]
    wide = 4 * width
    first = [*_normalised(width, wide), nn.ReLU(), *_normalised(wide, width)]
    return [*first, *_normalised(width, wide), nn.ReLU(), nn.Conv2d(wide, width, 1)]


def _normalised(inputs: int, outputs: int, kernel: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]


def _noise_like(features: Tensor, generator: Generator) -> Tensor:
    return torch.randn(features.shape, generator=generator, device=features.device, dtype=features.dtype)
