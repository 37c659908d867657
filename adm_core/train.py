"""The one training loop for all tasks: a step that a caller drives, and a run that drives it to the end.

A run is a pure function of seed and recipe: batches and all randomness, dropout's included, are derived from (seed,
epoch, step), so a checkpoint holds no state of samplers or generators, and resuming gives the weights that an
uninterrupted run gives. Nothing is read from the environment. Precision and accumulation are torch's own.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from adm_core import checkpoint
from adm_core.batch import Batch
from adm_core.branches import Branch
from adm_core.compiling import begin_step, compiled
from adm_core.distiller import Distiller
from adm_core.errors import AdmError, Diverged, Stopped
from adm_core.evaluated import Averages
from adm_core.losses.spatial import share_of
from adm_core.meter import Meter
from adm_core.optimizer import backward, make_optimizers, update
from adm_core.outcome import Outcome
from adm_core.pace import Pace
from adm_core.progress import Progress, Trained
from adm_core.ranks import Ranks
from adm_core.recipe import Recipe
from adm_core.seeds import StepGenerator, derive, sow
from adm_core.show import Shown
from adm_core.taps import Network
from adm_core.task import Task

CHECK_EVERY = 100
"""Steps between two looks at whether the losses are finite; each is one device synchronisation."""
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, recipe: Recipe) -> torch.autocast:
    """The precision in which a recipe's networks run, as a context."""
    low = _AUTOCAST.get(recipe.precision)
    return torch.autocast(device.type, dtype=low, enabled=low is not None)


class Trainer:
    """Trains one distiller by one recipe.

    :meth:`run` does it all. Who drives several on one stream of batches (:mod:`adm_core.lockstep`) calls :meth:`resume`
    once, then :meth:`step` for every batch and :meth:`end_epoch` after each epoch, and :meth:`trained` at the end.

    Args:
        distiller: networks and method, on the device where training happens.
        task: batches, loss and evaluation.
        recipe: how to train.
        seed: of the run; initialisation is the caller's.
        checkpoint_file: where to keep the checkpoint; an existing one is resumed. None: no checkpoints.
        checkpoint_seconds: least time between two checkpoints, as :class:`adm_core.pace.Pace` takes it, whatever the
            length of an epoch: a kill costs at most the time between two and one step.
        report: called after each epoch with ``epoch``, ``epochs``, ``score``, ``loss``, ``seconds``, ``curves``.
        asked_to_stop: looked at after each step; once it is true, a checkpoint is kept and :class:`Stopped` raised.
        code: part to SHA-256 of its source; the checkpoint holds it, and one of other code is not gone on from.
        ranks: the processes that train it, each with a trainer like this; all go on from the checkpoint.

    Attributes:
        remark: why training started over although there was a checkpoint; None where it did not.
        pace: of checkpoints.

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
        asked_to_stop: Callable[[], bool] = lambda: False,
        code: Mapping[str, str] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.distiller, self.task, self.recipe, self.seed = distiller, task, recipe, seed
        self.ranks, self._asked = ranks or Ranks(), False
        self.share = self.ranks.share(recipe.accumulate)
        self.file, self.pace, self.report = checkpoint_file, Pace(checkpoint_seconds), report
        self.asked_to_stop, self.code = asked_to_stop, dict(code or {})
        self.remark: str | None = None
        self.device = next(distiller.parameters()).device
        if recipe.precision in ("fp16", "tf32") and self.device.type != "cuda":
            raise AdmError(f"precision {recipe.precision} needs a GPU, not {self.device}; use fp32 or bf16")
        if recipe.selection == "best-validation" and not task.has_validation:
            raise AdmError("selection best-validation needs a validation split; set data.validation in the protocol")
        if recipe.compile:
            distiller.showing.forward = compiled(recipe.compile, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type) if recipe.precision == "fp16" else None
        self.optimizers = make_optimizers(distiller, recipe)
        self.peaks = [float(group["lr"]) for group in self._groups()]
        self.ranks.check(self.optimizers)
        self.generator, self.meter = StepGenerator(self.device), Meter(self.device)
        self.averages = Averages(distiller, recipe.ema)
        self.best_state: dict[str, Any] | None = None
        self.progress = Progress()

    @property
    def done(self) -> bool:
        """Whether every step of the recipe has been taken."""
        return self.progress.step >= self.recipe.epochs * self.task.steps_per_epoch

    def run(self) -> Trained:
        """Train to the end of the recipe, from the checkpoint if there is one.

        Raises:
            Diverged: a loss is not finite; the term and the epoch are named.
            Stopped: it was asked to; a checkpoint is there to go on from.
        """
        self.resume()
        for epoch in range(self.progress.epochs, self.recipe.epochs):
            start = self.progress.step - epoch * self.task.steps_per_epoch
            if start < self.task.steps_per_epoch:  # else it was stopped between the epoch's last step and its end
                self._train_epoch(epoch, start)
            self.end_epoch(epoch + 1)
        return self.trained()

    def step(self, batch: Batch, shown: Sequence[Shown] = ()) -> None:
        """One optimiser step on a batch of this step's number; the distiller must be in training mode.

        Args:
            batch: the whole of it, or this process's share.
            shown: what the frozen teacher shows on each of its micro-batches; none: it is run here.
        """
        if self.recipe.compile and not shown:
            begin_step()
        step = self.progress.step
        done = step / (self.recipe.epochs * self.task.steps_per_epoch)
        factor = self.recipe.schedule.factor(step / self.task.steps_per_epoch, self.recipe.epochs)
        for group, peak in zip(self._groups(), self.peaks, strict=True):
            group["lr"] = peak * factor
        seed, whole, outcomes = derive(self.seed, "method", step), self.ranks.whole(batch.mask), list[Outcome]()
        self.distiller.enter_phase(done)
        with self.ranks.in_order(self.distiller):
            for part, chunk in zip(self.share.own, batch.chunks(len(self.share.own)), strict=False):
                self.generator.begin(seed, part)
                with share_of(chunk.mask, whole, self.recipe.accumulate), autocast(self.device, self.recipe):
                    outcomes.append(self.distiller(chunk, done, self.generator, part, *shown[part : part + 1]))
                backward(outcomes[-1], self.optimizers[0], self.recipe.accumulate, self.scaler)
        made, self._asked = self.ranks.unite(outcomes, self.optimizers, self.file is not None and self.asked_to_stop())
        for outcome in made:
            self.progress.add(outcome)
        update(self.optimizers, self.distiller.trained.values(), self.recipe.clip_norm, self.scaler)
        sow(self.device, seed, "after step")
        self.distiller.after_step(self.optimizers[0])
        self.averages.update()
        self.ranks.look(self.distiller)
        self.progress.step += 1

    def trained(self) -> Trained:
        """What training has left: the weights that the recipe selects."""
        p, chosen = self.progress, self.best_state if self.recipe.selection == "best-validation" else None
        for role, state in (chosen or {}).items():
            self._evaluated()[role].module.load_state_dict(state)
        epoch = p.best_epoch or self.recipe.epochs  # there is none by another rule, nor where every score was NaN
        step_ms = statistics.median(p.step_ms) if p.step_ms else None
        return Trained(self._evaluated(), p.curves, p.seconds, step_ms, p.peak_mb, p.step, epoch, p.shared)

    def end_epoch(self, epoch: int) -> None:
        """Evaluate, note the curves and keep a checkpoint after an epoch, counted from 1.

        Raises:
            Diverged: weights are not finite; tensors and epoch are named.
        """
        self._check_weights(epoch)
        self.ranks.check_alike(self.distiller)
        values = self.progress.means()
        values |= {"epoch": float(epoch), "lr": float(self._groups()[0]["lr"])}
        score = None
        if self.task.has_validation and (epoch % self.recipe.evaluate_every == 0 or epoch == self.recipe.epochs):
            scores = self.task.evaluate(self._evaluated(), "validation")
            values |= {f"validation.{role}.{m}": v for role, part in scores.items() for m, v in part.items()}
            score = scores["student"][self.task.metric]
            self._keep_best(score, epoch)
        self.progress.note(epoch, values)
        if self.is_due():
            self.save()
        told = {"epoch": epoch, "epochs": self.recipe.epochs, "score": score, "loss": values.get("train.student.task")}
        self.report(told | {"seconds": self.progress.seconds, "curves": self.progress.curves})

    def _train_epoch(self, epoch: int, start: int) -> None:
        self.distiller.train()
        self.meter.begin()
        for batch in self.task.shares(epoch, start, self.share):
            self.step(batch)
            self.meter.step()
            due = self._asked or self.is_due()
            if due or self.progress.step % CHECK_EVERY == 0:
                self.check()
            if due:
                self.progress.took(self.meter.end())
                self.save()
                self.meter.begin()
            if self._asked:
                raise Stopped(f"stopped in epoch {epoch + 1} of {self.recipe.epochs}, with a checkpoint")
        self.check()
        self.progress.took(self.meter.end())

    def check(self) -> None:
        """Look whether the losses have been finite so far, which waits for the device.

        Raises:
            Diverged: a term was not; it and the epoch are named.
        """
        self.progress.check_finite(self.task.steps_per_epoch, self.recipe.epochs)

    def is_due(self) -> bool:
        """Whether it is time for a checkpoint, which the first of several processes keeps."""
        return self.file is not None and self.ranks.is_first and self.pace.is_due()

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def _check_weights(self, epoch: int) -> None:
        """A finite loss may have a gradient that is not, and after the last step no further loss would tell."""
        buffers = {name: b for name, b in self.distiller.named_buffers() if not name.startswith("parts.")}
        broken = checkpoint.not_finite({**dict(self.distiller.named_parameters()), **buffers})
        if broken:
            raise Diverged(f"weights are not finite after epoch {epoch} of {self.recipe.epochs}: {broken}")

    def _keep_best(self, score: float | None, epoch: int) -> None:
        if self.recipe.selection != "best-validation" or score is None or math.isnan(score):
            return
        signed = score if self.task.higher_is_better else -score
        if self.progress.best is None or signed > self.progress.best:
            self.progress.best, self.progress.best_epoch = signed, epoch
            self.best_state = {
                role: {key: value.clone() for key, value in network.module.state_dict().items()}
                for role, network in self._evaluated().items()
                if role != "teacher" or self.distiller.regime != "offline"
            }

    def _evaluated(self) -> dict[str, Network]:
        """The networks to evaluate: averages in the place of what they average, what is deployed, and each branch."""
        student = self.distiller.networks["student"]  # not its average: of branches there is none
        ends: list[Branch] = list(self.distiller.branches)  # type: ignore[arg-type]
        branches = {f"branch{number}": end.whole(student) for number, end in enumerate(ends, start=2)}
        networks = self.averages.evaluated() | branches
        for network in networks.values():
            network.module.eval()
        return networks

    def save(self) -> None:
        """Keep a checkpoint, where there is a place for one."""
        if self.file is None or not self.ranks.is_first:
            return
        with self.pace.keeping():
            checkpoint.save(self.file, self.progress.state() | {
                "distiller": self.distiller.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "averages": self.averages.state_dict(),
                "best": self.best_state, "scaler": self.scaler.state_dict() if self.scaler else None, "code": self.code,
            })  # fmt: skip

    def resume(self) -> None:
        """Take up the checkpoint, if there is one of this code.

        Raises:
            AdmError: it is damaged, or of another run.
        """
        state = checkpoint.load(self.file) if self.file else None
        if state is None:
            return
        self.remark = checkpoint.of_other_code(state, self.code)
        if self.remark:
            print(self.remark, file=sys.stderr)
            return
        try:
            self.progress = Progress.of_state(state, self.device)
            self.distiller.load_state_dict(state["distiller"])
            for optimizer, own in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(own)
            self.averages.load_state_dict(state["averages"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise AdmError(f"checkpoint {self.file} is of another run or version: {error}; delete it") from error
        self.best_state = state["best"]
        if self.scaler and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
