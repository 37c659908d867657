"""Sampling is Diffusers' DDIM, and the same schedule as in training."""

import pytest
import torch
from diffusers import DDIMPipeline, LCMScheduler, UNet2DModel
from diffusers.guiders import ClassifierFreeGuidance
from torch import nn

from adm_core.errors import AdmError, Diverged
from adm_core.seeds import derive
from tasks.diffusion.sampling import Guided, Schedule, initial_noise, sample
from tests.diffusion.denoisers import Broken, Remembering

PREDICTIONS = ("epsilon", "v_prediction", "sample")


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("steps", [1, 4, 20])
def test_the_noise_process_steps_as_the_scheduler_does(name, prediction, steps):
    """In float64, that the steep start of the cosine schedule does not hide behind rounding."""
    schedule = Schedule(name, 1000, prediction)
    scheduler, process = schedule.scheduler(), schedule.process()
    scheduler.set_timesteps(steps)
    denoiser = Remembering(schedule)
    theirs = ours = initial_noise(6, 1, 8).double()
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    alphas = scheduler.alphas_cumprod.sqrt()
    process = type(process)(alphas, (1 - alphas**2).sqrt(), process.prediction)
    denoiser.process = process
    for t in scheduler.timesteps.tolist():
        at = torch.full((6,), t)
        to = torch.full((6,), t - 1000 // steps).clamp_min(-1)
        theirs = scheduler.step(denoiser(theirs, at), t, theirs).prev_sample
        ours = process.step(denoiser(ours, at), ours, at, to)
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-5)
    assert t - 1000 // steps == -1


def test_levels_are_those_of_the_papers():
    """DDPM: products of 1 - β, β even from 1e-4 to 0.02; improved DDPM: cos² ((t / T + s) / (1 + s) · π / 2)."""
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    process = Schedule("linear").process()
    assert torch.allclose(process.alphas.double(), (1 - beta).cumprod(0).sqrt(), rtol=1e-4, atol=0)
    assert torch.allclose(process.alphas**2 + process.sigmas**2, torch.ones(1000), atol=1e-6)
    t = torch.arange(1, 991, dtype=torch.float64) / 1000
    level = ((t + 0.008) / 1.008 * torch.pi / 2).cos() ** 2 / torch.tensor(0.008 / 1.008 * torch.pi / 2).cos() ** 2
    assert torch.allclose(Schedule("cosine").process().alphas[:990].double() ** 2, level, rtol=1e-3, atol=1e-6)


def test_the_cosine_schedule_alone_ends_in_noise_alone():
    """As the offer of the task has it: a ratio of signal to noise of 2e-9 against 4e-5."""
    ends = {}
    for name in ("linear", "cosine"):
        process = Schedule(name).process()
        ends[name] = float(process.snr(torch.tensor([999])))
    assert ends["cosine"] < 1e-8 and ends["linear"] > 1e-5


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_samples_are_those_of_the_plain_pipeline(prediction):
    torch.manual_seed(0)
    unet = UNet2DModel(8, 1, 1, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4,
                       down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)  # fmt: skip

    class Denoiser(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unet = unet

        def forward(self, noisy, timestep, label):
            return self.unet(noisy, timestep).sample

    schedule = Schedule(prediction=prediction)
    ours = sample(Denoiser(), initial_noise(3, 1, 8), schedule, 5)
    pipeline = DDIMPipeline(unet, schedule.scheduler())
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(derive(0, "initial noise"))
    theirs = pipeline(3, generator, num_inference_steps=5, use_clipped_model_output=True, output_type="np").images
    assert abs(ours / 2 + 0.5 - torch.from_numpy(theirs).permute(0, 3, 1, 2)).max() < 1e-6


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("steps", [2, 5, 20])
def test_samples_are_ddims_formula_with_the_noise_of_the_clipped_image(prediction, steps):
    """Step by step from the schedule's β; the denoiser means images beyond [-1, 1], so that clipping matters."""
    schedule = Schedule(prediction=prediction)
    denoiser = Remembering(schedule, lambda noisy: 1.2 * (2 * noisy).cos())
    level = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    images = initial_noise(4, 1, 8).double()
    for step in range(steps):
        t = 1000 - step * 1000 // steps - 1
        s = t - 1000 // steps
        alpha, sigma = level[t] ** 0.5, (1 - level[t]) ** 0.5
        alpha_s, sigma_s = (level[s] ** 0.5, (1 - level[s]) ** 0.5) if s >= 0 else (1.0, 0.0)
        clipped = (1.2 * (2 * images).cos()).clamp(-1, 1)
        noise = (images - alpha * clipped) / sigma
        images = alpha_s * clipped + sigma_s * noise
    made = sample(denoiser, initial_noise(4, 1, 8), schedule, steps)
    torch.testing.assert_close(made.double(), images, rtol=0, atol=2e-4)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("steps", [1, 4])
def test_multistep_samples_are_those_of_diffusers_scheduler_for_consistency_models(prediction, steps):
    """Its share of the noisy image is below 1e-6 at these timesteps; the denoiser means images beyond [-1, 1]."""
    schedule = Schedule("cosine", 1024, prediction)
    denoiser = Remembering(schedule, lambda noisy: 1.2 * (2 * noisy).cos())
    theirs = initial_noise(4, 1, 8)
    scheduler = LCMScheduler.from_config(schedule.scheduler().config)
    scheduler.set_timesteps(timesteps=[1024 - step * 1024 // steps - 1 for step in range(steps)])
    for t in scheduler.timesteps.tolist():
        generator = torch.Generator().manual_seed(derive(0, "fresh noise", t))
        theirs = scheduler.step(denoiser(theirs, torch.full((4,), t)), t, theirs, generator).prev_sample
    ours = sample(denoiser, initial_noise(4, 1, 8), schedule, steps, sampler="multistep")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)
    ddim = sample(denoiser, initial_noise(4, 1, 8), schedule, steps)
    assert torch.allclose(ours, ddim, atol=1e-5) == (steps == 1)  # one step ends at the image that it predicts


class Conditional(Remembering):
    """Means an image of the class that it is told, and none of all where it is told 3."""

    def forward(self, noisy, timestep, label):
        return super().forward(noisy, timestep, label) * torch.tensor([0.6, 0.8, 1.1, 0.4])[label].view(-1, 1, 1, 1)


@pytest.mark.parametrize("sampler", ["ddim", "multistep"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_guidance_is_diffusers_classifier_free_guidance_of_two_passes(prediction, sampler):
    """Theirs in the paper's own terms, in which the strength 0 is one pass."""
    schedule, labels = Schedule("cosine", prediction=prediction), torch.arange(10) % 3
    denoiser, guide = Conditional(schedule), ClassifierFreeGuidance(guidance_scale=0.7, use_original_formulation=True)
    guide.set_state(step=1, num_inference_steps=4, timestep=500)

    class Theirs(nn.Module):
        def forward(self, noisy, timestep, label):
            told, untold = denoiser(noisy, timestep, label), denoiser(noisy, timestep, torch.full_like(label, 3))
            return guide.forward(told, untold).pred

    how = {"labels": labels, "batch_size": 4, "sampler": sampler}
    theirs, ours, plain = (
        sample(each, initial_noise(10, 1, 8), schedule, 4, **how)
        for each in (Theirs(), Guided(denoiser, 0.7, 3), denoiser)
    )
    assert torch.allclose(ours, theirs, atol=1e-5) and not torch.allclose(ours, plain, atol=1e-2)


@pytest.mark.parametrize("sampler", ["ddim", "multistep"])
def test_batches_change_nothing_and_labels_stay_with_their_noise(sampler):
    schedule = Schedule(prediction="v_prediction")
    denoiser, labels = Remembering(schedule), torch.arange(10) % 3
    whole = sample(denoiser, initial_noise(10, 3, 8), schedule, 4, labels, sampler=sampler)
    parts = sample(denoiser, initial_noise(10, 3, 8), schedule, 4, labels, batch_size=4, sampler=sampler)
    first = sample(denoiser, initial_noise(10, 3, 8)[:5], schedule, 4, labels[:5], sampler=sampler)
    assert torch.allclose(whole, parts, atol=1e-6) and whole.abs().max() <= 1
    assert torch.allclose(whole[:5], first, atol=1e-6)
    assert [label.tolist() for label in denoiser.labels[4:16]] == [labels[part].tolist() for part in (
        slice(0, 4), slice(4, 8), slice(8, 10))] * 4  # fmt: skip


def test_a_denoiser_that_knows_the_image_ends_at_it():
    image = torch.rand(1, 1, 8, 8) * 2 - 1
    for prediction in PREDICTIONS:
        schedule = Schedule(prediction=prediction)
        made = sample(Remembering(schedule, lambda noisy: image.expand_as(noisy)), initial_noise(5, 1, 8), schedule, 10)
        assert torch.allclose(made, image.expand_as(made), atol=2e-5)


def test_initial_noises_are_always_the_same():
    noise = initial_noise(4, 1, 8)
    torch.manual_seed(5)
    assert torch.equal(noise, initial_noise(4, 1, 8)) and torch.equal(noise, initial_noise(8, 1, 8)[:4])
    many = initial_noise(1000, 1, 8)
    assert abs(float(many.mean())) < 0.02 and abs(float(many.std()) - 1) < 0.02


def test_values_that_are_not_finite_are_told_with_their_steps():
    for prediction in PREDICTIONS:
        with pytest.raises(Diverged, match="sampling in 4 steps: 1 of 5 images hold values that are not finite"):
            sample(Broken(), initial_noise(5, 1, 8), Schedule(prediction=prediction), 4)


def test_steps_that_do_not_meet_the_timesteps_are_refused():
    with pytest.raises(AdmError, match="in 7 steps: it must be a divisor of the 1000 timesteps, such as 4, 5, 8"):
        sample(Broken(), initial_noise(5, 1, 8), Schedule(), 7)
    with pytest.raises(AdmError, match="such as 1, 2"):
        Schedule().check_steps(0)


def test_unknown_names_are_told_with_their_nearest():
    with pytest.raises(AdmError, match="unknown noise schedule 'cosin'; did you mean cosine"):
        Schedule("cosin")
    with pytest.raises(AdmError, match="unknown prediction type 'v'"):
        Schedule(prediction="v")
    with pytest.raises(AdmError, match="timesteps must be 10 or more, not 4"):
        Schedule(timesteps=4)
