"""SRD: a simple recipe for distillation (Miles & Mikolajczyk, arXiv:2303.11098, AAAI 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import Tap, searched

if TYPE_CHECKING:
    from torch import nn


@register
class SimpleRecipe(Method):
    """``weight · log Σ_bi |s_bi - t_bi|^exponent``, s and t the networks' vectors, standardised over the batch.

    The student's vector goes through a linear layer first, also where widths agree (arXiv:2303.11098;
    :func:`adm_core.losses.correlations.log_sum_distance`). On ImageNet the authors add the divergence of logits at
    T = 1, weight 1, beside the whole task loss: ``kd+srd``. Of a map the mean over valid positions is an example's
    vector. The term may be negative.
    """

    card = MethodCard(
        name="srd",
        title="Simple Recipe for Distillation",
        paper="arXiv:2303.11098",
        year=2024,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of the authors' code for ImageNet, the only ones that it holds for convolutional networks.

        Attributes:
            tap: an example's vector, or a map to average; denoisers, which have no such classifier, have ``mid``.
            weight: of the term.
            exponent: α.
        """

        tap: Tap = "penultimate"
        weight: Annotated[float, Field(ge=0)] = searched(2.0, 0.2, 20.0)
        exponent: Annotated[float, Field(ge=1)] = 4.0

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """One tap of both networks on the same examples."""
        return Needs(taps=(self.settings.tap,), capabilities=frozenset({"trainable-parts"}))

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The linear layer to the teacher's width."""
        from torch import nn

        return {"projector": nn.Linear(student[self.settings.tap][1], teacher[self.settings.tap][1])}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``distance``."""
        s = self.settings
        own, known = losses.examples.pooled(student.features[s.tap], step.mask)
        target, _ = losses.examples.pooled(teacher.detached().features[s.tap], step.mask)
        distance = losses.correlations.log_sum_distance(self.parts["projector"](own), target, s.exponent, known)
        return Losses(student={"distance": s.weight * distance})
