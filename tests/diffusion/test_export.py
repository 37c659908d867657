"""A trained student as plain Diffusers loads it, and as the teacher of another suite."""

import json

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, UNet2DModel

from adm_core.checkpoint import fit, load_foreign
from adm_core.network_definition import NetworkDefinition
from tasks.diffusion import export, networks
from tasks.diffusion.networks import folders


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Nothing may be fetched."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def scheduler():
    return DDIMScheduler(num_train_timesteps=100, timestep_spacing="trailing")


def denoiser(classes=None):
    torch.manual_seed(0)
    return networks.build("unet-w8", 1, 8, classes).module


def sampled(module, noise, steps):
    """DDIM by our module, in the loop that its authors describe."""
    plan, images = scheduler(), noise
    plan.set_timesteps(steps)
    with torch.no_grad():
        for t in plan.timesteps:
            images = plan.step(
                module(images, t.expand(len(images))), t, images, use_clipped_model_output=True
            ).prev_sample
    return (images / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_plain_diffusers_makes_the_images_that_our_module_makes(tmp_path, memory):
    module = denoiser().to(memory_format=memory).train()
    export.save(module, tmp_path, scheduler())
    assert module.training and module.unet.conv_in.weight.is_contiguous(memory_format=memory)

    pipeline = DDIMPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        4,
        torch.Generator().manual_seed(3),
        num_inference_steps=5,
        use_clipped_model_output=True,
        output_type="pt",
    ).images
    noise = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(images, sampled(module, noise, 5))


def test_the_ddpm_pipeline_loads_it_too(tmp_path):
    module = denoiser()
    export.save(module, tmp_path, scheduler())
    pipeline = DDPMPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline(2, num_inference_steps=2, output_type="np").images.shape == (2, 8, 8, 1)
    state = module.unet.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in pipeline.unet.state_dict().items())


def test_weights_are_no_pickles_and_nothing_names_this_machine(tmp_path):
    export.save(denoiser(), tmp_path / "made" / "here", scheduler())
    files = {file.name for file in tmp_path.rglob("*") if file.is_file()}
    assert files == {"model_index.json", "scheduler_config.json", "config.json", folders.WEIGHTS}
    assert not any(str(tmp_path) in file.read_text() for file in tmp_path.rglob("*.json"))


def test_a_network_that_is_told_the_class_is_saved_for_loops_of_one_s_own(tmp_path):
    module, label = denoiser(classes=10), torch.tensor([3, 7])
    export.save(module, tmp_path, scheduler())
    pipeline, x, t = DDIMPipeline.from_pretrained(tmp_path), torch.randn(2, 1, 8, 8), torch.tensor([5, 60])
    with torch.no_grad():
        torch.testing.assert_close(pipeline.unet(x, t, class_labels=label).sample, module(x, t, label))
    with pytest.raises(ValueError, match="class_labels should be provided"):
        pipeline(2, num_inference_steps=2)


@pytest.mark.parametrize("removal", ["base", "small", "tiny"])
def test_a_student_without_blocks_is_loaded_by_plain_diffusers(tmp_path, removal):
    module = networks.build(f"unet3-w16-{removal}", 1, 8).module
    export.save(module, tmp_path, scheduler())
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([5, 60])
    with torch.no_grad():
        loaded = UNet2DModel.from_pretrained(tmp_path, subfolder="unet")
        torch.testing.assert_close(loaded(x, t).sample, module.unet.eval()(x, t).sample)


@pytest.mark.parametrize("folder", ["", "unet"])
def test_an_exported_student_is_a_teacher_for_others(tmp_path, folder):
    trained = denoiser()
    export.save(trained, tmp_path, scheduler())
    config, weights = (networks.locate(str(tmp_path / folder), part, "x") for part in ("config", "weights"))
    teacher = networks.build("brought", 1, 8, None, NetworkDefinition(config.name, {}, config))
    fit(teacher, networks.as_denoiser(load_foreign(weights)), "x", "digits@2")
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([5, 60])
    with torch.no_grad():
        torch.testing.assert_close(teacher.module(x, t), trained(x, t))


def test_the_scheduler_of_the_training_is_in_the_folder(tmp_path):
    export.save(denoiser(), tmp_path, scheduler())
    saved = json.loads((tmp_path / "scheduler" / "scheduler_config.json").read_text())
    assert (saved["num_train_timesteps"], saved["timestep_spacing"]) == (100, "trailing")
