"""CLDA: the student updates what is least salient of its teacher, which teaches it (Cho et al., arXiv:2409.02699)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, PredictionKind, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor, nn


@register
class CollaborativeLearning(Method):
    """Student: ``L + weight · d(z_t, z)``, z_t of a teacher whose least salient weights follow ``d(z, z_t)`` in turns.

    For ``probe`` steps the teacher rests and ``|θ · dL/dθ|`` of its layers' weights is summed up; salient is what is
    above the mean of all. Of the layers the share ``layers`` with the fewest salient weights is chosen. For the next
    ``teach`` steps what is not salient there moves by ``-rate · dd/dθ``, and nothing else of the teacher does; it stays
    in evaluation mode. Then salience is measured anew. L is the task's loss, ``d(a, b) = T² KL(a || b)`` with a
    constant, of denoisers the mean squared difference. ``choice="random"`` is the control of layers chosen at random,
    ``rate=0`` that of a frozen teacher.

    It is made for a shift, under which a frozen teacher passes on its errors. With ``adapt`` salience and d are of
    shifted pictures without labels; in salience the classes stand for labels that the teacher names there, surer than
    ``confidence``, and the student learns them beside L, which stays that of labelled pictures.

    A reconstruction: there is no code, and only the abstract was to be had. Verified (abstract): a saliency rate of
    layers, the student updating the teacher's non-salient weights, turns with the teacher teaching back. Ours: the
    rate's formula, updates by function (weights of two architectures do not correspond), ``adapt``, SGD, every setting.
    """

    card = MethodCard(
        name="clda",
        title="Collaborative Learning for Domain Adaptation (reconstruction)",
        paper="arXiv:2409.02699",
        year=2024,
        regimes=frozenset({"offline"}),
        family="logits",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are our choice.

        Attributes:
            weight: of the student's distance to the teacher.
            temperature: T.
            rate: of the teacher's steps.
            probe: steps in which salience is measured.
            teach: steps after them in which the teacher learns.
            layers: share of the layers that are chosen, by ``choice``.
            adapt: to pictures without labels.
            confidence: with ``adapt``, least probability of the class that the teacher names.
        """

        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0)
        rate: Annotated[float, Field(ge=0)] = searched(0.01, 0.0001, 0.1)
        probe: Annotated[int, Field(ge=1)] = 20
        teach: Annotated[int, Field(ge=1)] = 180
        layers: Annotated[float, Field(gt=0, le=1)] = 0.2
        choice: Literal["salience", "random"] = "salience"
        adapt: bool = False
        confidence: Annotated[float, Field(ge=0, lt=1)] = searched(
            0.9, 0.0, 0.95, scale="linear", acts=lambda s, _: s.adapt
        )

    _gradients: tuple[tuple[Tensor, ...], ...]

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """A copy of the teacher; to adapt, classes and pictures without labels."""
        adapt, memory = self.settings.adapt, frozenset({"memory"})
        kind: PredictionKind | None = "class_logits" if adapt else None
        return Needs(kind, copies={"teacher": "teacher"}, teacher=False, capabilities=memory, unlabelled=adapt)

    def take(self, parts: Mapping[str, nn.Module]) -> None:
        """Keep the parts, and with the teacher's copy the salience of its weights."""
        from adm_core.salience import Salience, layers_of

        super().take(parts)
        copied: Any = parts["teacher"]
        self._network, self._layers, self._gradients = copied.network, partial(layers_of, copied.network), ()
        self._salience = Salience(list(self._layers().values()))
        copied.add_module("salience", self._salience)

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``teacher``, and with ``adapt`` also ``named``."""
        import torch

        from adm_core import align

        s, kind = self.settings, student.kind
        images, target, mask = step.batch.teacher_input, step.target, step.mask
        if s.adapt:
            student, images, mask = step.unlabelled["student"], cast("Tensor", step.batch.unlabelled_input), None
        distance = partial(losses.teachers.distance, kind=kind, temperature=s.temperature, mask=mask)
        layers = {name: p.detach().requires_grad_() for name, p in self._layers().items()}
        shown = torch.func.functional_call(self._network, layers, (images, *step.batch.conditions))
        own, taught = align.match_predictions(student.prediction, shown.float())
        if s.adapt:
            target, mask = taught.argmax(1), losses.teachers.agreed(taught, taught, s.confidence)
        error = partial(losses.teachers.error, target=target, kind=kind, mask=mask)
        fit = error(taught) if self._place() < s.probe else distance(taught, own.detach())
        # Layers that do not run in evaluation mode, such as auxiliary ones, get zeros.
        found = torch.autograd.grad(fit, list(layers.values()), allow_unused=True, materialize_grads=True)
        self._gradients += (found,)
        terms = {"teacher": s.weight * distance(own, taught.detach())} | ({"named": error(own)} if s.adapt else {})
        return Losses(student=terms)

    def _place(self) -> int:
        return int(self._salience.count % (self.settings.probe + self.settings.teach))

    def after_step(self) -> None:
        """Sum up salience and then choose layers, or move what is not salient; nothing after a step without losses."""
        if not self._gradients:
            return
        s, place, salience = self.settings, self._place(), self._salience
        layers = [p.detach() for p in self._layers().values()]
        gradients = [sum(each) / len(each) for each in zip(*self._gradients, strict=True)]
        if place < s.probe:
            salience.add(layers, gradients, anew=place == 0)
            if place == s.probe - 1:
                salience.choose(s.layers, s.choice == "random")
        else:
            salience.move(layers, gradients, s.rate)
        self._gradients = ()
        salience.count += 1
