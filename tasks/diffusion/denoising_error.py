"""The error of denoisers on held-out images, by parts of the timesteps."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn

from adm_core.errors import Diverged
from adm_core.seeds import derive
from tasks.diffusion.reference import RealImages
from tasks.diffusion.sampling import Schedule

BINS = 10
"""Equal parts of the timesteps in which the error is shown."""


def denoising_error(
    denoiser: nn.Module, schedule: Schedule, real: RealImages, device: torch.device | str, batch_size: int
) -> dict[str, float]:
    """Mean squared error of predictions on held-out images: ``denoising_error``, and by tenths of the timesteps.

    Every image is noised once in each tenth, at a timestep and with a noise that are always the same.

    Args:
        denoiser: on the device; it is put in evaluation mode.
        schedule: with which it was trained; the error is in the space of what it predicts.
        real: whose held-out images.
        device: of the denoiser.
        batch_size: images at a time.

    Raises:
        Diverged: an error is not finite.
    """
    process = schedule.process(device)
    clean = real.held_out.to(device)
    labels = None if real.labels is None or real.classes is None else real.labels.to(device)
    edges = [schedule.timesteps * part // BINS for part in range(BINS + 1)]
    digits = len(str(schedule.timesteps - 1))
    denoiser.eval()
    found = {}
    for low, high in pairwise(edges):
        generator = torch.Generator().manual_seed(derive(0, "held-out noise", low))
        timestep = torch.randint(low, high, (len(clean),), generator=generator).to(device)
        noise = torch.randn(clean.shape, generator=generator).to(device)
        squared = 0.0
        with torch.inference_mode(), torch.autocast(clean.device.type, enabled=False):
            for index in torch.arange(len(clean), device=device).split(batch_size):
                at, image, error = timestep[index], clean[index], noise[index]
                label = None if labels is None else labels[index]
                prediction = denoiser(process.noisy(image, error, at), at, label)
                squared += float((prediction - process.target(image, error, at)).double().square().sum())
        found[f"denoising_error/t{low:0{digits}}-{high - 1:0{digits}}"] = squared / clean.numel()
    mean = sum(found.values()) / BINS
    if not math.isfinite(mean):
        raise Diverged("the denoising error on held-out images is not finite")
    return {"denoising_error": mean, **found}
