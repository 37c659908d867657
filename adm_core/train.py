"""The one training loop for all tasks, on Accelerate.

A run is a pure function of seed and recipe: batches and the method's randomness are derived from (seed, epoch,
step), so a checkpoint holds no sampler state, and resuming gives the weights that an uninterrupted run gives.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from adm_core import checkpoint
from adm_core.averaging import MovingAverage
from adm_core.batch import Batch
from adm_core.distiller import Distiller, Outcome
from adm_core.errors import AdmError, Diverged
from adm_core.optimizer import make_optimizers
from adm_core.recipe import Recipe
from adm_core.seeds import derive
from adm_core.taps import Network
from adm_core.task import Task

Curves = dict[str, list[float | None]]
CHECK_EVERY = 100
"""Steps between two looks at whether the losses are finite; each is one device synchronisation."""


@dataclass(frozen=True)
class Trained:
    """What training leaves.

    Attributes:
        networks: the networks to evaluate, by role, in evaluation mode: last or best weights, averaged if asked.
        curves: one value per epoch: ``epoch``, ``lr``, ``train.*``, ``log.*``, ``validation.*``.
        seconds: time spent in training steps, over all attempts.
        steps: optimiser steps.
        epoch: the epoch whose weights these are.
    """

    networks: Mapping[str, Network]
    curves: Curves
    seconds: float
    steps: int
    epoch: int


@dataclass
class _Progress:
    """Where a run stands; everything but tensors is JSON, so that it travels in a checkpoint."""

    step: int = 0
    seconds: float = 0.0
    curves: Curves = field(default_factory=dict)
    best: float | None = None
    best_epoch: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


class Trainer:
    """Trains one distiller by one recipe.

    Args:
        distiller: networks and method, on the device where training happens.
        task: batches, loss and evaluation.
        recipe: how to train.
        seed: of the run; initialisation is the caller's.
        checkpoint_file: where to keep the checkpoint; an existing one is resumed. None: no checkpoints.
        checkpoint_seconds: least time between two checkpoints within an epoch.
        report: called after each epoch with ``epoch``, ``epochs``, ``score``, ``loss``, ``seconds``.

    Raises:
        AdmError: the recipe asks for what the device cannot do, or the checkpoint is damaged.
    """

    def __init__(
        self,
        distiller: Distiller,
        task: Task,
        recipe: Recipe,
        seed: int,
        checkpoint_file: Path | None = None,
        checkpoint_seconds: float = 30.0,
        report: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self.distiller, self.task, self.recipe, self.seed = distiller, task, recipe, seed
        self.file, self.checkpoint_seconds, self.report = checkpoint_file, checkpoint_seconds, report
        self.device = next(distiller.parameters()).device
        if recipe.precision == "fp16" and self.device.type != "cuda":
            raise AdmError(f"precision fp16 needs a GPU, not {self.device}; use fp32 or bf16")
        if recipe.selection == "best-validation" and not task.has_validation:
            raise AdmError("selection best-validation needs a validation split; set data.validation in the protocol")
        # Accelerate keeps one state per process; a second run in it may ask for another precision.
        AcceleratorState._reset_state(reset_partial_state=True)
        mixed = {"fp32": "no"}.get(recipe.precision, recipe.precision)
        self.accelerator = Accelerator(
            mixed_precision=mixed, gradient_accumulation_steps=recipe.accumulate, cpu=self.device.type == "cpu"
        )
        self.roles = distiller.parameter_groups()
        optimizers = make_optimizers(distiller, recipe)
        self.model, *wrapped = self.accelerator.prepare(distiller, *optimizers)
        # Accelerate's wrapper is needed for fp16's loss scale alone, and costs half a millisecond a step.
        self.optimizers = wrapped if self.accelerator.scaler else optimizers
        self.peaks = [float(group["lr"]) for group in self._groups()]
        self.generator = torch.Generator(self.device)
        self.averages = self._make_averages()
        self.best_state: dict[str, Any] | None = None
        self.progress = _Progress()
        self._saved_at = time.monotonic()

    def run(self) -> Trained:
        """Train to the end of the recipe, from the checkpoint if there is one.

        Raises:
            Diverged: a loss is not finite; the term and the epoch are named.
        """
        self._resume()
        per_epoch = self.task.steps_per_epoch
        while self.progress.step < self.recipe.epochs * per_epoch:
            epoch, start = divmod(self.progress.step, per_epoch)
            self._train_epoch(epoch, start)
            self._end_epoch(epoch + 1)
        if self.recipe.selection == "best-validation" and self.best_state is not None:
            self._load_evaluated(self.best_state)
        epoch = self.progress.best_epoch if self.recipe.selection == "best-validation" else self.recipe.epochs
        return Trained(self._evaluated(), self.progress.curves, self.progress.seconds, self.progress.step, epoch)

    def _train_epoch(self, epoch: int, start: int) -> None:
        self.distiller.train()
        began = time.perf_counter()
        for batch in self.task.batches(epoch, start):
            self._train_step(batch)
            self.progress.step += 1
            if self.progress.step % CHECK_EVERY == 0:
                self._check_finite()
                if self.file and time.monotonic() - self._saved_at > self.checkpoint_seconds:
                    self.progress.seconds += time.perf_counter() - began
                    self._save()
                    began = time.perf_counter()
        self._check_finite()
        self.progress.seconds += time.perf_counter() - began

    def _train_step(self, batch: Batch) -> None:
        step = self.progress.step
        done = step / (self.recipe.epochs * self.task.steps_per_epoch)
        factor = self.recipe.schedule.factor(step / self.task.steps_per_epoch, self.recipe.epochs)
        for group, peak in zip(self._groups(), self.peaks, strict=True):
            group["lr"] = peak * factor
        self.generator.manual_seed(derive(self.seed, "method", step))
        for chunk in batch.chunks(self.recipe.accumulate):
            with self.accelerator.accumulate(self.model):
                outcome = self.model(chunk, done, self.generator)
                self.accelerator.backward(outcome.total)
                if self.accelerator.sync_gradients:
                    if self.recipe.clip_norm:
                        self._clip(self.recipe.clip_norm)
                    for optimizer in self.optimizers:
                        optimizer.step()
                        optimizer.zero_grad()
            self._accumulate(outcome)
        self.distiller.after_step()
        for average in self.averages.values():
            average.update()

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def _clip(self, norm: float) -> None:
        self.accelerator.unscale_gradients()
        for parameters in self.roles.values():
            nn.utils.clip_grad_norm_(parameters, norm)

    def _accumulate(self, outcome: Outcome) -> None:
        values = {f"train.{name}": value for name, value in outcome.terms.items()}
        values |= {f"log.{name}": value for name, value in outcome.log.items()}
        for name, value in values.items():
            if name in self.progress.sums:
                self.progress.sums[name] += value
                self.progress.counts[name] += 1
            else:
                self.progress.sums[name], self.progress.counts[name] = value.double(), 1

    def _check_finite(self) -> None:
        sums = self.progress.sums
        if not sums or bool(torch.stack(list(sums.values())).isfinite().all()):
            return
        bad = [name for name, value in sums.items() if not bool(value.isfinite())]
        epoch = 1 + (self.progress.step - 1) // self.task.steps_per_epoch
        raise Diverged(f"{', '.join(bad)} became {sums[bad[0]].item()} in epoch {epoch} of {self.recipe.epochs}")

    def _end_epoch(self, epoch: int) -> None:
        values: dict[str, float | None] = {
            name: float(total) / self.progress.counts[name] for name, total in self.progress.sums.items()
        }
        values |= {"epoch": float(epoch), "lr": float(self._groups()[0]["lr"])}
        self.progress.sums, self.progress.counts = {}, {}
        score = None
        if self.task.has_validation and (epoch % self.recipe.evaluate_every == 0 or epoch == self.recipe.epochs):
            scores = self.task.evaluate(self._evaluated(), "validation")
            values |= {f"validation.{role}.{m}": v for role, part in scores.items() for m, v in part.items()}
            score = scores["student"][self.task.metric]
            self._keep_best(score, epoch)
        for name, value in values.items():
            column = self.progress.curves.setdefault(name, [])
            column.extend([None] * (epoch - 1 - len(column)))
            column.append(value)
        for column in self.progress.curves.values():
            column.extend([None] * (epoch - len(column)))
        if self.file:
            self._save()
        loss = values.get("train.student.task")
        self.report({"epoch": epoch, "epochs": self.recipe.epochs, "score": score, "loss": loss,
                     "seconds": self.progress.seconds})  # fmt: skip

    def _keep_best(self, score: float | None, epoch: int) -> None:
        if self.recipe.selection != "best-validation" or score is None or math.isnan(score):
            return
        signed = score if self.task.higher_is_better else -score
        if self.progress.best is None or signed > self.progress.best:
            self.progress.best, self.progress.best_epoch = signed, epoch
            networks = self._evaluated()
            self.best_state = {
                role: {key: value.clone() for key, value in network.module.state_dict().items()}
                for role, network in networks.items()
            }

    def _make_averages(self) -> dict[str, MovingAverage]:
        if self.recipe.ema is None:
            return {}
        networks = {role: self.distiller.networks[role] for role in self.roles if role != "method"}
        return {role: MovingAverage(network.module, self.recipe.ema) for role, network in networks.items()}

    def _evaluated(self) -> dict[str, Network]:
        networks = dict(self.distiller.networks)
        for role, average in self.averages.items():
            networks[role] = replace(networks[role], module=average.module)
        for network in networks.values():
            network.module.eval()
        return networks

    def _load_evaluated(self, state: dict[str, Any]) -> None:
        for role, network in self._evaluated().items():
            network.module.load_state_dict(state[role])

    def _save(self) -> None:
        if self.file is None:
            return
        p = self.progress
        numbers = {"step": p.step, "seconds": p.seconds, "curves": p.curves, "best": p.best,
                   "best_epoch": p.best_epoch, "counts": p.counts}  # fmt: skip
        cuda = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        scaler = self.accelerator.scaler
        checkpoint.save(self.file, {
            "progress": json.dumps(numbers), "sums": p.sums, "distiller": self.distiller.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "rng": [torch.get_rng_state(), *cuda],
            "averages": {role: average.state_dict() for role, average in self.averages.items()},
            "best": self.best_state, "scaler": scaler.state_dict() if scaler else None,
        })  # fmt: skip
        self._saved_at = time.monotonic()

    def _resume(self) -> None:
        state = checkpoint.load(self.file) if self.file else None
        if state is None:
            return
        try:
            sums = {name: value.to(self.device) for name, value in state["sums"].items()}
            self.progress = _Progress(**json.loads(state["progress"]), sums=sums)
            self.distiller.load_state_dict(state["distiller"])
            for optimizer, own in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(own)
            for role, average in self.averages.items():
                average.load_state_dict(state["averages"][role])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise AdmError(f"checkpoint {self.file} is of another run or version: {error}; delete it") from error
        self.best_state = state["best"]
        torch.set_rng_state(state["rng"][0])
        if self.device.type == "cuda" and len(state["rng"]) > 1:
            torch.cuda.set_rng_state(state["rng"][1], self.device)
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
