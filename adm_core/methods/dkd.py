"""DKD: target-class and non-target-class parts of KD weighted apart (Zhao et al., arXiv:2203.08679)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class DKD(Method):
    """``CE + ramp · (alpha · TCKD + beta · NCKD)`` (arXiv:2203.08679, eq. 7), ramped up linearly."""

    card = MethodCard(
        name="dkd",
        title="Decoupled Knowledge Distillation",
        paper="arXiv:2203.08679",
        year=2022,
        regimes=frozenset({"offline"}),
        family="logits",
    )
    needs = Needs(prediction="class_logits")

    @dataclass(frozen=True)
    class Settings:
        """Defaults are mdistiller's on CIFAR-100; warm-up is 20 of its 240 epochs. Beta is set per pair there.

        Attributes:
            alpha: of the target class's part.
            beta: of the part of the other classes.
            temperature: T.
            warmup: share of training in which the loss rises to its full weight.
            standardise: logits of both networks first (arXiv:2403.01427), where T = 2 and larger weights are usual.
        """

        alpha: Annotated[float, Field(ge=0)] = 1.0
        beta: Annotated[float, Field(ge=0)] = searched(8.0, 0.5, 20.0)
        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0)
        warmup: Annotated[float, Field(ge=0, le=1)] = 20 / 240
        standardise: bool = False

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Written for one label per image."""
        return None if len(student["prediction"]) == 2 else "DKD is defined on image labels, not on dense predictions"

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``dkd``."""
        s, own, other = self.settings, student.prediction, teacher.detached().prediction
        if s.standardise:
            own, other = losses.logits.standardised(own), losses.logits.standardised(other)
        term = losses.partitions.decoupled_kl(own, other, step.target, s.alpha, s.beta, s.temperature)
        return Losses(student={"dkd": step.ramp(s.warmup) * term})
