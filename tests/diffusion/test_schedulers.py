"""Case 6: weights whose pipeline noised and predicted otherwise than the protocol are refused before training.

luosiallen/latent-consistency-model#65: a teacher of velocities was used as one of noise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler, PNDMScheduler

from adm_core.errors import AdmError
from suites.spec.expand import expand
from tasks.diffusion import data_settings
from tasks.diffusion.networks.schedulers import check_weights
from tasks.diffusion.sampling import Schedule

SUITE = """title: a teacher from a pipeline
networks:
  brought: {{base: pipe, checkpoint: {checkpoint}}}
blocks:
  - title: Offline
    task: diffusion
    benchmark: digits@2
    protocol: ./recipe.yaml
    pairs: [brought > unet-w8]
    regime: offline
    methods: [output]
    seeds: [0]
"""
RECIPE = """title: noise is predicted
source: tests
task: diffusion
recipe: {epochs: 1, batch_size: 8, optimizer: {lr: 0.1}}
data: {sampling: {steps: 10, samples: 100}, noise: {schedule: linear, timesteps: 1000, prediction: epsilon}}
"""


def write(folder: Path, scheduler: Any, beside: bool = False) -> Path:
    """A pipeline's folder, or one with everything at its top; gives the file of the weights, which are not read."""
    unet = folder if beside else folder / "unet"
    unet.mkdir(parents=True)
    (unet / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    (unet / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    if scheduler is not None:
        scheduler.save_pretrained(folder if beside else folder / "scheduler")
    return unet / "diffusion_pytorch_model.safetensors"


def settings(**noise: Any) -> data_settings.DataSettings:
    return data_settings.read({"sampling": {"steps": 10, "samples": 100}, "noise": noise}, "test")


@pytest.mark.parametrize("checkpoint", ["pipe", "pipe/unet/diffusion_pytorch_model.safetensors"])
def test_case_06_a_plan_refuses_a_teacher_of_velocities(tmp_path: Path, checkpoint: str) -> None:
    write(tmp_path / "pipe", Schedule("cosine", 1000, "v_prediction").scheduler())
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "mine.yaml").write_text(SUITE.format(checkpoint=checkpoint))
    with pytest.raises(AdmError) as told:
        expand(str(tmp_path / "mine.yaml"))
    assert str(told.value) == (
        f"{tmp_path}/mine.yaml: networks.brought.checkpoint, protocol './recipe.yaml': these weights were trained with "
        "other noise than the protocol's data.noise says: their pipeline's DDIMScheduler has prediction_type "
        "v_prediction instead of epsilon, beta_schedule squaredcos_cap_v2 instead of linear; give the protocol their "
        "noise, or other weights"
    )
    fitting = RECIPE.replace("linear", "cosine").replace("epsilon", "v_prediction")
    (tmp_path / "recipe.yaml").write_text(fitting)
    assert len(expand(str(tmp_path / "mine.yaml")).rows) == 1


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize(
    ("scheduler", "differs"),
    [
        (DDPMScheduler(), ""),
        (PNDMScheduler(), ""),
        (None, ""),
        (DDPMScheduler(num_train_timesteps=500), "num_train_timesteps 500 instead of 1000"),
        (DDPMScheduler(beta_end=0.012), "beta_end 0.012 instead of 0.02"),
        (DDPMScheduler(beta_schedule="scaled_linear"), "beta_schedule scaled_linear instead of linear"),
        (DDPMScheduler(prediction_type="sample"), "prediction_type sample instead of epsilon"),
        (DDIMScheduler(rescale_betas_zero_snr=True), "rescale_betas_zero_snr True instead of False"),
        (DDPMScheduler(trained_betas=[0.1, 0.2]), r"trained_betas \[0.1, 0.2\] instead of None"),
        (FlowMatchEulerDiscreteScheduler(), "FlowMatchEulerDiscreteScheduler has beta_schedule None instead of linear"),
    ],
)
def test_every_difference_of_noise_is_told(tmp_path: Path, scheduler: Any, differs: str, beside: bool) -> None:
    weights = write(tmp_path / "pipe", scheduler, beside)
    if not differs:
        check_weights(weights, settings(), "here")
        return
    with pytest.raises(AdmError, match=f"^here: these weights .*{differs}"):
        check_weights(weights, settings(), "here")


def test_where_a_schedule_has_no_ends_they_do_not_matter(tmp_path: Path) -> None:
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", beta_start=0.1, num_train_timesteps=100)
    check_weights(write(tmp_path / "pipe", scheduler), settings(schedule="cosine", timesteps=100), "here")


def test_what_older_versions_of_diffusers_left_out_is_their_default(tmp_path: Path) -> None:
    weights = write(tmp_path / "pipe", DDPMScheduler())
    file = tmp_path / "pipe" / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({"_class_name": "DDPMScheduler", "beta_schedule": "linear"}))
    check_weights(weights, settings(), "here")
    file.write_text("not JSON")
    with pytest.raises(AdmError, match=r"^here: .*scheduler_config\.json cannot be read"):
        check_weights(weights, settings(), "here")
