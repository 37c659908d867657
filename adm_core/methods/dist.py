"""DIST: match correlations within and between predictions (Huang et al., arXiv:2205.10536)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register


@register
class DIST(Method):
    """``CE + weight · T² (beta · (1 - inter) + gamma · (1 - intra))`` (arXiv:2205.10536, eqs. 9-11).

    Inter is the Pearson correlation over classes, intra the one over examples (pixels) of a class.
    """

    card = MethodCard(
        name="dist",
        title="Knowledge Distillation from a Stronger Teacher",
        paper="arXiv:2205.10536",
        year=2022,
        regimes=frozenset({"offline"}),
        family="relations",
    )
    needs = Needs(prediction="class_logits")

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-100: T = 4, outer weight 2."""

        beta: Annotated[float, Field(ge=0)] = 1.0
        gamma: Annotated[float, Field(ge=0)] = 1.0
        temperature: Annotated[float, Field(gt=0)] = 4.0
        weight: Annotated[float, Field(ge=0)] = 2.0

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Two terms, ``inter`` and ``intra``."""
        s = self.settings
        target = teacher.detached().prediction
        inter, intra = losses.logits.dist_relations(student.prediction, target, s.temperature, step.mask)
        return Losses(student={"inter": s.weight * s.beta * inter, "intra": s.weight * s.gamma * intra})
