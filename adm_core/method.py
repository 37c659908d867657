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

This file loads no torch, so that cards and settings can be listed and checked in no time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from adm_core.batch import Batch
    from adm_core.noising import Noising

PredictionKind = Literal["class_logits", "noise"]
Scalar = bool | int | float | str


@dataclass(frozen=True)
class MethodCard:
    """Who a method is.

    Attributes:
        name: the word used in suites and tables; composition joins such words by ``+``.
        title: the published name.
        paper: identifier of the paper, e.g. ``"arXiv:2203.08679"``.
        year: of publication.
        regimes: subset of ``{"offline", "online"}`` in which it can run.
        family: ``logits`` (predictions of any kind), ``features``, ``relations``, ``spatial``, ``steps`` (fewer steps
            of sampling) or ``baseline``.
        version: raised whenever the numbers it gives are meant to move; part of a cell's identity.
        detached: whether every target is detached, so that no student term reaches the teacher nor the reverse;
            checked by the contract tests.
    """

    name: str
    title: str
    paper: str
    year: int
    regimes: frozenset[str]
    family: str
    version: int = 1
    detached: bool = True


@dataclass(frozen=True)
class Needs:
    """What a method reads; decides on which tasks and pairs it can run.

    Attributes:
        prediction: the kind of prediction it understands; None: any.
        taps: feature maps it reads, the same names on both networks.
        head: whether it applies the networks' own classifiers, where they have one.
        views: ``"own"``: each network gets its own augmentation of an example (where predictions are dense, of its
            colours alone, as pixels must correspond); ``"shared"``: positions must correspond, so both get the same;
            ``"any"``. Composition: shared wins over own, own over any.
        capabilities: what goes beyond the rule, shown as a column; see :data:`CAPABILITIES`.
        teacher: whether it looks at the teacher at all; if not, a frozen teacher's forward pass is left out.
        copies: frozen copies of networks that it keeps, name to what is copied at the start; found in ``self.parts``
            as :class:`adm_core.network_copy.NetworkCopy`, called on a network's inputs, made to follow the student.
        starts_as_teacher: whether the student begins with the teacher's weights, which must be of its architecture.
    """

    prediction: PredictionKind | None = None
    taps: tuple[str, ...] = ()
    head: bool = False
    views: Literal["any", "own", "shared"] = "any"
    capabilities: frozenset[str] = frozenset()
    teacher: bool = True
    copies: Mapping[str, Literal["student", "teacher"]] = field(default_factory=dict)
    starts_as_teacher: bool = False


CAPABILITIES: Mapping[str, str] = {
    "trainable-parts": "trains modules of its own beside the networks",
    "own-views": "gives each network its own augmentation of an example",
    "pauses-teacher": "leaves the teacher out of some steps",
    "own-optimiser": "trains some of its parts by an optimiser of their own",
    "memory": "keeps a memory of earlier batches",
    "network-copies": "keeps copies of a network, and runs them",
    "starts-as-teacher": "starts the student from the teacher's weights",
}
"""What a method may need beyond the rule, by name."""


@dataclass(frozen=True)
class View:
    """What one network shows a method on one batch. All tensors are float32.

    Attributes:
        prediction: [B, K] or [B, K, h, w] class logits, or [B, C, h, w] predicted noise; of the same shape in both
            views of a step (the coarser of two dense predictions is interpolated).
        kind: which of these it is.
        features: tap name to feature map [B, C, H, W] (``penultimate``, what the classifier reads, is [B, C] where
            the prediction is one per image).
        task_loss: the task's loss of this network per example [B] or per position of the target [B, H, W], not
            reduced.
        head: the network's own classifier, mapping [..., C] to [..., K]; None where there is none.
    """

    prediction: Tensor
    kind: PredictionKind
    features: Mapping[str, Tensor]
    task_loss: Tensor
    head: Callable[[Tensor], Tensor] | None = None

    def detached(self) -> View:
        """The same view as a target: no gradient flows back into the network through its tensors."""
        return replace(
            self,
            prediction=self.prediction.detach(),
            features={tap: tensor.detach() for tap, tensor in self.features.items()},
            task_loss=self.task_loss.detach(),
            head=None if self.head is None else constant(self.head),
        )


def constant(module: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A module as a function whose weights are constants; gradients still pass to its input.

    For a network's classifier as a target, or a critic that judges a network without being trained by it.
    """

    def apply(features: Tensor) -> Tensor:
        from torch.func import functional_call

        weights = {name: p.detach() for name, p in module.named_parameters()}  # type: ignore[attr-defined]
        result: Tensor = functional_call(module, weights, (features,))  # type: ignore[arg-type]
        return result

    return apply


@dataclass(frozen=True)
class Step:
    """The circumstances of one batch.

    Attributes:
        target: what the prediction is held against: class indices [B] or [B, H, W], noise [B, C, H, W]. A dense
            prediction may be coarser than it.
        progress: share of training done, in [0, 1].
        generator: source of randomness on the batch's device, seeded by cell and step.
        mask: bool [B, H, W] of the target's positions, true where it is valid; None: everywhere. Elsewhere the
            target holds some class all the same, so that it can index; no term may depend on which.
        noising: how noisy inputs came about; set where the networks predict noise.
    """

    target: Tensor
    progress: float
    generator: Generator
    mask: Tensor | None = None
    noising: Noising | None = None


@dataclass(frozen=True)
class Losses:
    """What a method asks of one batch. Every term is a scalar tensor, already weighted.

    Attributes:
        student: named terms that train the student.
        teacher: named terms that train the teacher (online only).
        parts: named terms that train the method's own parts and neither network, such as a critic's loss.
        student_task: weight of the student's own task loss.
        teacher_task: weight of the teacher's own task loss.
        teacher_paused: leave the teacher out of this step altogether: no loss, no optimiser step.
        log: named scalars to average over the epoch and keep as curves.
    """

    student: Mapping[str, Tensor] = field(default_factory=dict)
    teacher: Mapping[str, Tensor] = field(default_factory=dict)
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    student_task: float = 1.0
    teacher_task: float = 1.0
    teacher_paused: bool = False
    log: Mapping[str, Tensor] = field(default_factory=dict)


Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of a network's ``prediction`` and taps on one batch, batch size included, and of the weight [K, C] of its
``head`` where it has a linear classifier that fits the pooled last stage."""


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
    needs: Needs = Needs()

    def __init__(self, **settings: Scalar) -> None:
        from adm_core.settings import make_settings

        self.settings = make_settings(self.card.name, self.Settings, settings)
        self.parts: Mapping[str, nn.Module] = {}

    @classmethod
    def defaults(cls) -> dict[str, Scalar]:
        """Every setting with its default."""
        return {f.name: f.default for f in fields(cls.Settings) if f.default is not MISSING}

    def resolved(self) -> dict[str, Scalar]:
        """Every setting with the value in force, as plain JSON."""
        return asdict(self.settings)

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Why the method cannot run on this pair, or None when it can.

        Args:
            student: shapes of the student's prediction and taps.
            teacher: the teacher's.
            regime: ``"offline"`` or ``"online"``.
        """
        return None

    def build(self, student: Shapes, teacher: Shapes) -> dict[str, nn.Module]:
        """Modules to train beside the networks (projectors, critics) or that hold state (memories), by name."""
        return {}

    def optimizers(self) -> Mapping[str, Adam]:
        """Parts that are trained apart, by name; the others join the optimiser of the networks."""
        return {}

    def take(self, parts: Mapping[str, nn.Module]) -> None:
        """Keep the modules made in :meth:`build` and the copies of networks: ``self.parts``."""
        self.parts = parts

    def inputs(self, batch: Batch, progress: float, generator: Generator) -> Batch:
        """What the networks are fed instead of a batch as the task drew it, e.g. at other timesteps."""
        return batch

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """The method's terms for one batch; called once per batch with both networks' views.

        Where ``needs.teacher`` is false and the teacher is frozen there is no view of it: ``teacher`` is None.
        """
        raise TypeError(f"method '{self.card.name}' does not define losses(student, teacher, step)")

    def after_step(self) -> None:
        """Called after every optimiser step, e.g. to update a memory."""
