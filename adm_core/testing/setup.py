"""A method set up on tiny networks with an optimiser, ready to be tried."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adm_core import registry
from adm_core.batch import Batch
from adm_core.card import MEAN
from adm_core.distiller import Distiller, Regime
from adm_core.method import Losses, PredictionKind, Scalar, View
from adm_core.optimizer import backward, make_optimizers
from adm_core.outcome import Outcome
from adm_core.recipe import Optimizer, Recipe
from adm_core.taps import Network
from adm_core.testing.networks import BATCHES, EXAMPLES, Form, task_loss, tiny_batch, tiny_facts, tiny_network

SettingsByPart = dict[str, dict[str, Scalar]]
RECIPE = Recipe(epochs=1, batch_size=EXAMPLES, optimizer=Optimizer(name="sgd", lr=0.05))
"""How the tiny networks train."""
SURE = 200
"""What makes the frozen tiny teacher as sure as trained ones are: some methods follow only what it is sure of."""


@dataclass
class Setup:
    """A method set up on tiny networks in one regime, with its optimisers.

    Args:
        spec: method name or composition.
        regime: ``offline``, ``online`` or ``peers``.
        settings: per part, what differs from the defaults.
        widths: of student and teacher; peers have the student's.
        form: what the networks predict.
    """

    spec: str
    regime: Regime
    settings: SettingsByPart
    widths: tuple[int, int] = (8, 12)
    form: Form = "images"

    def __post_init__(self) -> None:
        self.method = registry.create(self.spec, self.settings)
        kind: PredictionKind = "denoiser" if self.form == "denoisers" else "class_logits"
        batch = self.batch(0)
        example = tuple(given[:2] for given in (batch.student_input, *batch.conditions))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(3)
            self.distiller = Distiller(
                self._networks(), self.method, self.regime, task_loss, kind, example, tiny_facts(self.form)
            )
        self.optimizers = make_optimizers(self.distiller, RECIPE)
        if self.method.needs.teacher_pass and self.regime == "offline":
            self.method.know(self.distiller.prepare(self.batch(seed) for seed in range(BATCHES)))

    def _networks(self) -> dict[str, Network]:
        """The networks that regime and method ask for, each from a seed of its own."""
        widths, needs = dict(zip(("student", "teacher"), self.widths, strict=True)), self.method.needs
        if self.regime == "peers":
            del widths["teacher"]
            widths |= {f"peer{number}": self.widths[0] for number in range(1, needs.peers + 1)}
        branches = needs.branches.count if needs.branches else 1
        widths |= {f"branch{number}": self.widths[0] for number in range(2, branches + 1)}
        return {role: tiny_network(w, seed, self.form) for seed, (role, w) in enumerate(widths.items(), start=1)}

    def make_teacher_sure(self) -> None:
        """Multiply the logits of a frozen classifier, but for its bias, by :data:`SURE`.

        Among peers those of their copies, all of which become the first one: methods may follow what several agree on.
        """
        d, found = self.distiller, list[nn.Module]()
        if self.regime == "offline":
            found = [d.networks["teacher"].module]
        elif self.regime == "peers":
            copies = [name for name, role in self.method.needs.copies.items() if role != MEAN]
            found = [d.parts[name].network for name in copies]  # type: ignore[misc]
        for module in found if self.form != "denoisers" else ():
            module.load_state_dict(found[0].state_dict())
            module.head.weight.mul_(SURE if module is found[0] else 1)  # type: ignore[union-attr, operator]

    def twin(self) -> Setup:
        """The same once more, from the same initial weights."""
        return Setup(self.spec, self.regime, self.settings, self.widths, self.form)

    def loss(self, seed: int, progress: float = 0.5) -> Tensor:
        """The total loss of one random batch."""
        return self.outcome(seed, progress).total

    def outcome(self, seed: int, progress: float = 0.5) -> Outcome:
        """What a forward pass on one random batch gives."""
        outcome: Outcome = self.distiller(self.batch(seed), progress, torch.Generator().manual_seed(seed))
        return outcome

    def step(self, seed: int, progress: float = 0.5) -> float:
        """One step of every optimiser on a random batch; the loss before it."""
        outcome = self.train(self.batch(seed), progress, torch.Generator().manual_seed(seed))
        return float(outcome.total.detach())

    def train(self, batch: Batch, progress: float, generator: torch.Generator) -> Outcome:
        """One step of every optimiser on a batch."""
        self.distiller.enter_phase(progress)
        outcome: Outcome = self.distiller(batch, progress, generator)
        backward(outcome, self.optimizers[0], 1, None)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.distiller.after_step(self.optimizers[0])
        return outcome

    def losses(self, seed: int = 0, progress: float = 0.5) -> Losses:
        """What the method returns for one random batch, before anything is summed."""
        generator = torch.Generator().manual_seed(seed)
        batch = self.method.inputs(self.batch(seed), progress, generator)
        return self.losses_of(self.distiller.views(batch)[0], batch, progress, seed)

    def losses_of(self, views: Mapping[str, View], batch: Batch, progress: float = 0.5, seed: int = 0) -> Losses:
        """What the method returns for given views of a batch."""
        step = self.distiller.step(batch, progress, torch.Generator().manual_seed(seed), views)
        return self.method.losses(views["student"], views.get("teacher"), step)  # type: ignore[arg-type]

    def batch(self, seed: int) -> Batch:
        """A random batch with what the method asks of batches: own or stronger views, balanced classes."""
        return tiny_batch(seed, self.method.needs.within(self.regime), self.form)

    def moments(self) -> list[float]:
        """A share of training in each of the method's phases, the last one included."""
        ends = list(itertools.accumulate((phase.share for phase in self.method.needs.phases), initial=0.0))
        return [(start + end) / 2 for start, end in itertools.pairwise([*ends, 1.0])]


def by_role(losses: Losses) -> list[tuple[str, Mapping[str, Tensor]]]:
    """The terms for each role, ``parts`` among them, as they are named."""
    own = [("student", losses.student), ("teacher", losses.teacher), ("parts", losses.parts)]
    return own + list(losses.peers.items())
