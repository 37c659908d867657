"""The whole contract of a distillation method, readable in ten minutes.

A method says how losses are formed from what the networks show. It sees two :class:`View` objects and a
:class:`Step` and returns :class:`Losses`; it never sees an optimiser, a loader, an epoch counter or the name of
what it is tested on. A minimal method::

    @register
    class MeanLogits(Method):
        "Pull the student's logits to the teacher's."
        card = MethodCard(name="mean-logits", title="Mean logits", paper="none", year=2026,
                          regimes=frozenset({"offline"}), family="logits")
        needs = Needs(prediction="class_logits")

        def losses(self, student, teacher, step):
            return Losses(student={"mse": (student.prediction - teacher.detached().prediction).pow(2).mean()})

What a method declares stands in :mod:`adm_core.card`, what it is given in :mod:`adm_core.view`; both are read from
here. These files load no torch, so that cards and settings can be listed and checked in no time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from adm_core.card import CAPABILITIES, Branches, MethodCard, Needs, Phase, PredictionKind
from adm_core.view import Step, View, ViewsOnDemand, constant

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from adm_core.batch import Batch
    from adm_core.taps import Network

__all__ = [
    "CAPABILITIES", "Adam", "Branches", "Facts", "Losses", "Method", "MethodCard", "Needs", "NoSettings", "Phase",
    "PredictionKind", "Scalar", "Shapes", "Step", "View", "ViewsOnDemand", "constant",
]  # fmt: skip

Scalar = bool | int | float | str


@dataclass(frozen=True)
class Losses:
    """What a method asks of one batch. Every term is a scalar tensor, already weighted.

    Attributes:
        student: named terms that train the student.
        teacher: named terms that train the teacher (online only).
        peers: named terms that train each peer, by its role (regime ``peers``).
        parts: named terms of the method's own parts, such as a critic's loss.
        student_task: weight of the student's own task loss, and of each peer's.
        student_auxiliary: weight of the loss of their auxiliary predictions; None: ``student_task``.
        teacher_task: weight of the teacher's own task loss.
        teacher_paused: leave the teacher out of this step altogether: no loss, no optimiser step.
        log: named scalars to average over the epoch and keep as curves.
    """

    student: Mapping[str, Tensor] = field(default_factory=dict)
    teacher: Mapping[str, Tensor] = field(default_factory=dict)
    peers: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    student_task: float = 1.0
    student_auxiliary: float | None = None
    teacher_task: float = 1.0
    teacher_paused: bool = False
    log: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of_roles(cls, terms: Mapping[str, Mapping[str, Tensor]]) -> Losses:
        """Terms by role, ``student``, ``teacher`` or a peer's, for methods that treat all networks alike."""
        peers = {role: own for role, own in terms.items() if role not in ("student", "teacher")}
        return cls(student=terms.get("student", {}), teacher=terms.get("teacher", {}), peers=peers)

    @classmethod
    def of_pairs(cls, pairs: Mapping[tuple[str, str], Losses]) -> Losses:
        """Those of equals, each of which is the student and each other one its teacher in turn.

        Args:
            pairs: (the student's role, the teacher's) to the losses of these two; every network takes the means over
                the others of its terms as a student, and of those as a teacher. Logs are means over all.
        """
        roles = dict.fromkeys(role for two in pairs for role in two)
        terms = {
            role: _means([pair.student for (own, _), pair in pairs.items() if own == role])
            | _means([pair.teacher for (_, own), pair in pairs.items() if own == role])
            for role in roles
        }
        return replace(cls.of_roles(terms), log=_means([pair.log for pair in pairs.values()]))


def _means(each: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Of scalars of the same names."""
    return {name: sum((one[name] for one in each[1:]), first) / len(each) for name, first in each[0].items()}


Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of a network's ``prediction`` and taps on one batch, batch size included, and of the weight [K, C] of its
``head`` where it has a linear classifier that fits the pooled last stage."""


@dataclass(frozen=True)
class Facts:
    """What there is to train on, for memories, schedules and statistics; nothing here says which benchmark it is.

    Attributes:
        examples: size of the training set, N; ``batch.index`` is in [0, N).
        classes: number of classes, K; None where predictions are not of classes.
        labels: class of each training example, int64 [N]; None where an example has no single class, or where to know
            it would mean to read every file.
        steps: optimiser steps of the whole training.
        batch_size: examples in a step.
        normalisation: tap of the teacher to weight and bias [C] of the batch normalisation whose output it is, for
            taps ``stageN.preact`` that have one.
        roles: the networks that there are, ``student`` first, then ``teacher`` or the peers, for parts of each.
    """

    examples: int
    classes: int | None
    labels: Tensor | None
    steps: int
    batch_size: int
    normalisation: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    roles: tuple[str, ...] = ("student", "teacher")


@dataclass(frozen=True)
class Adam:
    """An optimiser of its own for a part of a method, such as a critic; its rate follows the recipe's schedule.

    Attributes:
        lr: peak learning rate.
        betas: decays of the two moment estimates.
    """

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass(frozen=True)
class NoSettings:
    """A method without settings."""


class Method:
    """How a student learns from a teacher; subclass it, give it a ``card``, ``needs`` and ``losses``.

    Settings are a frozen dataclass of plain scalars whose defaults are the paper's. Modules that the method
    trains are made in :meth:`build` and found in ``self.parts`` afterwards.
    """

    card: ClassVar[MethodCard]
    Settings: ClassVar[type[Any]] = NoSettings
    only_in: ClassVar[Mapping[str, str]] = {}
    """Setting to the regime in which alone it acts; elsewhere it is no part of what a cell is."""
    needs: Needs = Needs()

    def __init__(self, **settings: Scalar) -> None:
        from adm_core.settings import make_settings

        self.settings = make_settings(self.card.name, self.Settings, settings)
        self.parts: Mapping[str, nn.Module] = {}
        self.statistics: Mapping[str, Tensor] = {}

    @classmethod
    def defaults(cls) -> dict[str, Scalar]:
        """Every setting with its default."""
        return {f.name: f.default for f in fields(cls.Settings) if f.default is not MISSING}

    def resolved(self, regime: str | None = None) -> dict[str, Scalar]:
        """Every setting with the value in force, as plain JSON; with a regime, only those that act in it."""
        idle = {name for name, own in self.only_in.items() if regime not in (None, own)}
        return {name: value for name, value in asdict(self.settings).items() if name not in idle}

    def capabilities(self, regime: str) -> frozenset[str]:
        """What it needs beyond the rule in a regime, by the names in :data:`CAPABILITIES`."""
        other = {"deploys-another"} if self.card.deployed != "student" else set()
        return self.needs.capabilities_in(regime) | other

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Why the method cannot run on this pair, or None when it can.

        Args:
            student: shapes of the student's prediction and taps.
            teacher: the teacher's; among peers, which are of one architecture, the student's once more.
            regime: ``"offline"``, ``"online"`` or ``"peers"``.
        """
        return None

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """Modules to train beside the networks (projectors, critics) or that hold state (memories), by name."""
        return {}

    def optimizers(self) -> Mapping[str, Adam]:
        """Parts that are trained apart, by name; the others join the optimiser of the networks."""
        return {}

    def take(self, parts: Mapping[str, nn.Module]) -> None:
        """Keep the modules made in :meth:`build` and the copies of networks: ``self.parts``."""
        self.parts = parts

    def momentum(self) -> Mapping[str, float]:
        """With ``needs.gradient_groups``: what is added to the recipe's momentum for the gradients of a group.

        ``task`` are the networks' own losses, ``distillation`` the method's terms; a term that is named here is a group
        of its own.
        """
        return {}

    def prepare(self, shown: Iterator[tuple[View, Batch]], facts: Facts) -> dict[str, Tensor]:
        """With ``needs.teacher_pass``: tensors made of the frozen teacher's views of the training batches of an epoch.

        Called once before training; found in ``self.statistics`` afterwards.
        """
        return {}

    def know(self, statistics: Mapping[str, Tensor]) -> None:
        """Keep what :meth:`prepare` made, now or in an earlier run: ``self.statistics``."""
        self.statistics = statistics

    def inputs(self, batch: Batch, progress: float, generator: Generator) -> Batch:
        """What the networks are fed instead of a batch as the task drew it, e.g. at other timesteps."""
        return batch

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """The method's terms for one batch; called once per batch with both networks' views.

        Where ``needs.teacher`` is false and the teacher is frozen, and among peers, ``teacher`` is None; every view
        there is stands in ``step.views`` by its role.
        """
        raise TypeError(f"method '{self.card.name}' does not define losses(student, teacher, step)")

    def after_step(self) -> None:
        """Called after every optimiser step, e.g. to update a memory."""

    def deployed(self, networks: Mapping[str, Network]) -> nn.Module:
        """The module that is scored, counted and saved as the student; its forward maps inputs to the prediction.

        Args:
            networks: the networks to evaluate, by role; ``self.parts`` are at hand as well.
        """
        return networks["student"].module
