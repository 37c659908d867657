"""What a pipeline's scheduler says about the noise that its U-Net was trained with. Loads no torch and no Diffusers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adm_core.errors import AdmError
from tasks.diffusion.data_settings import SCHEDULES, DataSettings, NoiseSettings
from tasks.diffusion.networks.folders import SUBFOLDER

_FILE = "scheduler_config.json"
_LINEAR = {"beta_start": 0.0001, "beta_end": 0.02}
"""β of the first and of the last timestep: DDPM's, which Diffusers takes where a config says nothing."""


def check_weights(weights: Path, settings: DataSettings, where: str) -> None:
    """Stop at the weights of a denoiser whose pipeline noised and predicted otherwise than the protocol.

    Weights without a scheduler beside them say nothing and pass.

    Args:
        weights: the file; a scheduler's config lies beside it, or in the pipeline that it belongs to.
        settings: of the protocol.
        where: file and key that named the weights, for messages.

    Raises:
        AdmError: names every difference, both sides, and what would be right.
    """
    file = _scheduler_of(weights)
    if file is None:
        return
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdmError(f"{where}: {file} cannot be read: {error}; a config file of Diffusers is JSON") from error
    theirs, ours = _of_pipeline(config), _of_protocol(settings.noise)
    differing = [
        f"{key} {theirs.get(key)} instead of {value}" for key, value in ours.items() if theirs.get(key) != value
    ]
    if differing:
        kind = config.get("_class_name", "scheduler") if isinstance(config, dict) else "scheduler"
        raise AdmError(
            f"{where}: these weights were trained with other noise than the protocol's data.noise says: their "
            f"pipeline's {kind} has {', '.join(differing)}; give the protocol their noise, or other weights"
        )


def _scheduler_of(weights: Path) -> Path | None:
    places = [weights.parent, weights.parent / "scheduler"]
    if weights.parent.name == SUBFOLDER:
        places.append(weights.parent.parent / "scheduler")
    return next((place / _FILE for place in places if (place / _FILE).is_file()), None)


def _of_protocol(noise: NoiseSettings) -> dict[str, Any]:
    """A protocol's noise in Diffusers' words."""
    betas = _LINEAR if noise.schedule == "linear" else {}
    return {
        "prediction_type": noise.prediction, "beta_schedule": SCHEDULES[noise.schedule], **betas,
        "num_train_timesteps": noise.timesteps, "trained_betas": None, "rescale_betas_zero_snr": False,
    }  # fmt: skip


def _of_pipeline(config: Any) -> dict[str, Any]:
    """The same of a scheduler's config; older ones lack what Diffusers has a default for.

    Schedulers of noise without β, such as flow matching, have no ``beta_schedule``.
    """
    defaults = {
        "prediction_type": "epsilon", **_LINEAR, "num_train_timesteps": 1000,
        "trained_betas": None, "rescale_betas_zero_snr": False,
    }  # fmt: skip
    return defaults | config if isinstance(config, dict) else {}
