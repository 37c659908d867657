"""A trained denoiser in the form that plain Diffusers loads: the folder of a pipeline."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.ddim.pipeline_ddim import DDIMPipeline

from tasks.diffusion.networks.denoiser import Denoiser


def save(module: Denoiser, folder: Path, scheduler: Any) -> None:
    """Write a pipeline, weights as safetensors, that ``DDIMPipeline`` and ``DDPMPipeline.from_pretrained`` load.

    Called with ``use_clipped_model_output=True``, ``DDIMPipeline`` makes the images that are scored here.

    That of a student which is scored by multistep sampling samples by DDIM all the same; Diffusers' ``LCMScheduler``,
    made of the scheduler's config and with the same timesteps, samples from ``pipeline.unet`` as it was scored.

    A network that is told the class is written and loaded all the same, but the pipelines cannot sample from it: they
    hand no class to a ``UNet2DModel``. ``pipeline.unet(noisy, timestep, class_labels=labels)`` in a loop over
    ``pipeline.scheduler`` does.

    Args:
        module: what to save; stays as and where it is.
        folder: made if need be.
        scheduler: a scheduler of Diffusers with the noise schedule and the prediction type of the training; the
            pipeline makes a ``DDIMScheduler`` of it.
    """
    unet = copy.deepcopy(module.unet).cpu().to(memory_format=torch.contiguous_format)  # safetensors takes no other
    DDIMPipeline(unet, scheduler).save_pretrained(folder)
