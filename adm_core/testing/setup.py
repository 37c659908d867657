"""A method set up on tiny networks with an optimiser, ready to be tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from adm_core import registry
from adm_core.batch import Batch
from adm_core.distiller import Distiller, Outcome, Regime
from adm_core.method import Losses, PredictionKind, Scalar, Step, View
from adm_core.optimizer import make_optimizers
from adm_core.recipe import Optimizer, Recipe
from adm_core.testing.networks import EXAMPLES, Form, task_loss, tiny_batch, tiny_network

SettingsByPart = dict[str, dict[str, Scalar]]


@dataclass
class Bench:
    """A method set up on tiny networks in one regime, with its optimisers.

    Args:
        spec: method name or composition.
        regime: ``offline`` or ``online``.
        settings: per part, what differs from the defaults.
        widths: of student and teacher.
        form: what the networks predict.
    """

    spec: str
    regime: Regime
    settings: SettingsByPart
    widths: tuple[int, int] = (8, 12)
    form: Form = "images"

    def __post_init__(self) -> None:
        self.method = registry.create(self.spec, self.settings)
        student, teacher = (tiny_network(width, seed, self.form) for seed, width in enumerate(self.widths, start=1))
        kind: PredictionKind = "noise" if self.form == "noise" else "class_logits"
        batch = tiny_batch(form=self.form)
        example = tuple(given[:2] for given in (batch.student_input, *batch.conditions))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.distiller = Distiller(student, teacher, self.method, self.regime, task_loss, kind, example)
        recipe = Recipe(epochs=1, batch_size=EXAMPLES, optimizer=Optimizer(name="sgd", lr=0.05))
        self.optimizers = make_optimizers(self.distiller, recipe)

    def twin(self) -> Bench:
        """The same once more, from the same initial weights."""
        return Bench(self.spec, self.regime, self.settings, self.widths, self.form)

    def loss(self, seed: int, progress: float = 0.5) -> Tensor:
        """The total loss of one random batch."""
        outcome: Outcome = self.distiller(self.batch(seed), progress, torch.Generator().manual_seed(seed))
        return outcome.total

    def step(self, seed: int, progress: float = 0.5) -> float:
        """One step of every optimiser; the loss before it."""
        loss = self.loss(seed, progress)
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.distiller.after_step()
        return float(loss.detach())

    def losses(self, seed: int = 0, progress: float = 0.5) -> Losses:
        """What the method returns for one random batch, before anything is summed."""
        generator = torch.Generator().manual_seed(seed)
        batch = self.method.inputs(self.batch(seed), progress, generator)
        return self.losses_of(self.distiller.views(batch)[0], batch, progress, seed)

    def losses_of(self, views: Mapping[str, View], batch: Batch, progress: float = 0.5, seed: int = 0) -> Losses:
        """What the method returns for given views of a batch."""
        if "teacher" not in views and not self.method.needs.copies:
            return Losses()  # the method reads none, so the distiller asks it for nothing
        step = Step(batch.target, progress, torch.Generator().manual_seed(seed), batch.mask, batch.noising)
        return self.method.losses(views["student"], views.get("teacher"), step)  # type: ignore[arg-type]

    def batch(self, seed: int) -> Batch:
        """A random batch, of two views where the method wants its own for each network."""
        return tiny_batch(seed, 2 if self.method.needs.views == "own" else 1, self.form)
