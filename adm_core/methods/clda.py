"""CLDA: the student updates what is least salient of its teacher, which teaches it (Cho et al., arXiv:2409.02699)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
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

    A reconstruction: there is no code, and only the abstract was to be had. Verified (abstract): a saliency rate of
    layers, the student updating the teacher's non-salient weights, turns with the teacher teaching back. Ours: the
    rate's formula, the update by function (weights of two architectures do not correspond), plain SGD, every setting.
    It is made for a shift, under which a frozen teacher passes on its errors. L reads labels here.
    """

    card = MethodCard(
        name="clda",
        title="Collaborative Learning for Domain Adaptation (reconstruction)",
        paper="arXiv:2409.02699",
        year=2024,
        regimes=frozenset({"offline"}),
        family="logits",
    )
    needs = Needs(copies={"teacher": "teacher"}, teacher=False, capabilities=frozenset({"memory"}))

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
        """

        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0)
        rate: Annotated[float, Field(ge=0)] = searched(0.01, 0.0001, 0.1)
        probe: Annotated[int, Field(ge=1)] = 20
        teach: Annotated[int, Field(ge=1)] = 180
        layers: Annotated[float, Field(gt=0, le=1)] = 0.2
        choice: Literal["salience", "random"] = "salience"

    _gradients: tuple[tuple[Tensor, ...], ...]

    def take(self, parts: Mapping[str, nn.Module]) -> None:
        """Keep the parts, and with the teacher's copy the salience of its weights."""
        from adm_core.salience import Salience, layers_of

        super().take(parts)
        copied: Any = parts["teacher"]
        self._network, self._gradients = copied.network, ()
        self._salience = Salience(list(layers_of(self._network).values()))
        copied.add_module("salience", self._salience)

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``teacher``."""
        import torch

        from adm_core import align
        from adm_core.salience import layers_of

        s, batch, kind = self.settings, step.batch, student.kind
        distance = partial(losses.teachers.distance, kind=kind, temperature=s.temperature, mask=step.mask)
        layers = {name: p.detach().requires_grad_() for name, p in layers_of(self._network).items()}
        shown = torch.func.functional_call(self._network, layers, (batch.teacher_input, *batch.conditions))
        own, taught = align.match_predictions(student.prediction, shown.float())
        rests = self._place < s.probe
        fit = losses.teachers.error(taught, step.target, kind, step.mask) if rests else distance(taught, own.detach())
        # Layers that do not run in evaluation mode, such as auxiliary ones, get zeros.
        found = torch.autograd.grad(fit, list(layers.values()), allow_unused=True, materialize_grads=True)
        self._gradients += (found,)
        return Losses(student={"teacher": s.weight * distance(own, taught.detach())})

    def after_step(self) -> None:
        """Sum up salience and then choose layers, or move what is not salient."""
        from adm_core.salience import layers_of

        s, place, salience = self.settings, self._place, self._salience
        layers = [p.detach() for p in layers_of(self._network).values()]
        gradients = [sum(each) / len(each) for each in zip(*self._gradients, strict=True)]
        if place < s.probe:
            salience.add(layers, gradients, anew=place == 0)
            if place == s.probe - 1:
                salience.choose(s.layers, s.choice == "random")
        else:
            for weights, gradient, moves in zip(layers, gradients, salience.movable(), strict=True):
                weights.sub_(s.rate * gradient * moves)
        self._gradients = ()
        salience.count += 1

    @property
    def _place(self) -> int:
        return int(self._salience.count % (self.settings.probe + self.settings.teach))
