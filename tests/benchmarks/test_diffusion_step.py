"""Denoisers in our loop: against the loop of Diffusers' training example, and what methods add to a step.

    OMP_NUM_THREADS=1 pytest tests/benchmarks/test_diffusion_step.py --benchmark-only -s

On one torch thread, in CPU time, data included; the sides take turns and the best round of each counts. Both loops
clip, average weights and schedule the learning rate as the protocol digits-quick does. Claims: training teacher and
student costs at most 1.05 of the example's loop (huggingface/diffusers, examples/unconditional_image_generation) for
the two; a method's step at most 1.25 of that of ``none`` and a forward pass of the teacher.
"""

import time
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import DDPMScheduler
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch.utils.data import DataLoader, TensorDataset

from adm_core import freed_memory
from adm_core.batch import Batch
from adm_core.distiller import Distiller
from adm_core.method import Facts
from adm_core.recipe import Recipe
from adm_core.registry import create
from adm_core.taps import Network
from adm_core.train import Trainer
from suites.spec.definition import load_protocol
from tasks.diffusion import data_settings, networks
from tasks.diffusion.batches import NoisyBatches
from tasks.diffusion.sampling import Schedule
from tasks.diffusion.task import DiffusionTask

FACTS = Facts(examples=2, classes=4, labels=None, steps=1, batch_size=2)

TEACHER, STUDENT = "unet-w16", "unet-w8"
PROTOCOL = load_protocol("digits-quick")[1]
SAMPLING = {"samples": 1, "steps": 10}
EXAMPLES = {"sampling": SAMPLING, "noise": {"schedule": "linear", "timesteps": 1000, "prediction": "epsilon"}}
"""The objective of Diffusers' example by default; its loop knows neither velocities nor min-SNR weights of them."""
SETTINGS = {"fitnet": {"tap": "mid", "weight": 0.1}, "adm": {"taps": ["mid"]}}
METHODS = ("output", "output+fitnet", "bksdm", "koala", "adm", "output+adm")


class Denoising:
    """Random images as the diffusion task hands them to the loop, without a set on disk and an evaluation."""

    kind, metric, higher_is_better, has_validation = "denoiser", "frechet", False, False
    task_loss, shares = DiffusionTask.task_loss, DiffusionTask.shares

    def __init__(self, data: dict, channels: int, side: int, batch: int, steps: int) -> None:
        self.settings = data_settings.read(data, "benchmark")
        noise = self.settings.noise
        self.process = Schedule(noise.schedule, noise.timesteps, noise.prediction).process()
        drawn = torch.rand(steps * batch, channels, side, side, generator=torch.Generator().manual_seed(0))
        self.images, self.batch, self.steps_per_epoch = 2 * drawn - 1, batch, steps
        self.loader = NoisyBatches(self.images, None, self.process, batch, 0, torch.device("cpu"))

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        return self.loader.batches(epoch, start)

    def pair(self) -> tuple[Network, Network]:
        """Student and teacher."""
        torch.manual_seed(0)
        _, channels, side, _ = self.images.shape
        return networks.build(STUDENT, channels, side), networks.build(TEACHER, channels, side)

    def recipe(self) -> Recipe:
        return PROTOCOL.recipe.model_copy(update={"epochs": 1, "batch_size": self.batch})

    def distiller(self, method: str, regime: str) -> Distiller:
        example = (self.images[:2], torch.zeros(2, dtype=torch.int64))
        chosen = {part: SETTINGS[part] for part in method.split("+") if part in SETTINGS}
        return Distiller(
            dict(zip(("student", "teacher"), self.pair(), strict=True)), create(method, chosen), regime, self.task_loss,
            "denoiser", example, FACTS,
        )  # fmt: skip


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def ours(task: Denoising, method: str, regime: str) -> float:
    """CPU seconds of an epoch in our loop."""
    return seconds(Trainer(task.distiller(method, regime), task, task.recipe(), 0).run)


def diffusers(task: Denoising) -> float:
    """CPU seconds of an epoch of the example's loop for both networks, one after the other on each batch."""
    recipe, accelerator = task.recipe(), Accelerator(cpu=True, gradient_accumulation_steps=1)
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", prediction_type="epsilon")
    trained = []
    loader = accelerator.prepare(DataLoader(TensorDataset(task.images), task.batch, shuffle=True, num_workers=0))
    for network in task.pair():
        model = network.module.unet.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.optimizer.lr, weight_decay=0.0)
        rates = get_scheduler("cosine", optimizer, num_warmup_steps=3, num_training_steps=task.steps_per_epoch)
        average = EMAModel(model.parameters(), decay=recipe.ema, use_ema_warmup=True)
        trained.append((*accelerator.prepare(model, optimizer, rates), average))

    def epoch() -> None:
        for (clean,) in loader:
            noise = torch.randn(clean.shape, device=clean.device)
            timesteps = torch.randint(0, len(scheduler), (len(clean),), device=clean.device).long()
            noisy = scheduler.add_noise(clean, noise, timesteps)
            for model, optimizer, rates, average in trained:
                with accelerator.accumulate(model):
                    loss = F.mse_loss(model(noisy, timesteps).sample.float(), noise.float())
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), recipe.clip_norm)
                    optimizer.step()
                    rates.step()
                    optimizer.zero_grad()
                if accelerator.sync_gradients:
                    average.step(model.parameters())
                _logged = loss.detach().item(), rates.get_last_lr()[0]

    return seconds(epoch)


def take_turns(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Least of what each side gives; the first turn of all is a warm-up."""
    best = dict.fromkeys(sides, float("inf"))
    for turn in range(rounds + 1):
        for name, side in sides.items():
            took = side()
            if turn:
                best[name] = min(best[name], took)
    return best


def test_both_loops_have_the_same_losses_and_gradients():
    """Not a benchmark: on one batch and with the same weights."""
    task = Denoising(EXAMPLES, 1, 8, 16, 1)
    batch = next(task.batches(0, 0))
    model, (student, teacher) = task.distiller("none", "online"), task.pair()
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", prediction_type="epsilon")
    noising, theirs = batch.noising, 0.0
    noisy = scheduler.add_noise(noising.clean, noising.noise, noising.timestep)
    for network in (student, teacher):
        theirs = theirs + F.mse_loss(network.module.unet(noisy, noising.timestep).sample, noising.noise)
    found = model(batch, 0.5, torch.Generator()).total
    torch.testing.assert_close(found, theirs)
    found.backward()
    theirs.backward()
    for own, other in ((model.student, student), (model.teacher, teacher)):
        for a, b in zip(own.parameters(), other.module.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("channels", "side", "batch", "steps"), [(1, 8, 64, 24), (3, 32, 16, 6)])
def test_our_loop_is_no_slower_than_diffusers_example(benchmark, tell, channels, side, batch, steps):
    """Teacher and student both train, without distillation."""
    torch.set_num_threads(1)
    freed_memory.keep()  # as every worker does; for both sides
    task = Denoising(EXAMPLES, channels, side, batch, steps)
    sides = {"ours": lambda: ours(task, "none", "online"), "diffusers": lambda: diffusers(task)}
    best = {name: 1000 * took / steps for name, took in take_turns(sides, rounds=6).items()}
    benchmark.pedantic(lambda: None, rounds=1)
    ratio = best["ours"] / best["diffusers"]
    tell(
        f"diffusion: a step of {TEACHER} and {STUDENT} together, {side}×{side}, batch {batch}, moving averages "
        "included, against the loop of Diffusers' training example on Accelerate",
        f"{ratio:.2f} × its time ({best['diffusers']:.0f} → {best['ours']:.0f} ms)",
        headline=side == 8, ours_ms=best["ours"], diffusers_ms=best["diffusers"],
    )  # fmt: skip
    assert ratio <= 1.05


def test_methods_add_at_most_a_quarter(benchmark, tell):
    """Frozen teacher, 8x8, batch 64, the protocol's own objective."""
    torch.set_num_threads(1)
    freed_memory.keep()  # as every worker does
    task = Denoising(PROTOCOL.data | {"sampling": SAMPLING}, 1, 8, 64, 24)

    def teacher() -> float:
        frozen = task.distiller("none", "offline").networks["teacher"].module
        batches = list(task.batches(0, 0))
        with torch.no_grad():
            return seconds(lambda: [frozen(batch.teacher_input, *batch.conditions) for batch in batches])

    sides = {method: lambda method=method: ours(task, method, "offline") for method in ("none", *METHODS)}
    best = {name: 1000 * took / 24 for name, took in take_turns(sides | {"teacher": teacher}, rounds=4).items()}
    benchmark.pedantic(lambda: None, rounds=1)
    base = best["none"] + best["teacher"]
    ratios = {method: best[method] / base for method in METHODS}
    tell(
        f"diffusion: {', '.join(f'`{method}`' for method in ratios)} over `none`'s step and the teacher's forward",
        ", ".join(f"{ratio:.2f}" for ratio in ratios.values()) + " ×",
        **{name.replace("+", "_"): took for name, took in best.items()},
    )
    assert max(ratios.values()) <= 1.25, ratios
