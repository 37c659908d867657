"""DKD: target-class and non-target-class parts of KD weighted apart (Zhao et al., arXiv:2203.08679)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register


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
        """Defaults are mdistiller's on CIFAR-100; warm-up is 20 of its 240 epochs. Beta is set per pair there."""

        alpha: Annotated[float, Field(ge=0)] = 1.0
        beta: Annotated[float, Field(ge=0)] = 8.0
        temperature: Annotated[float, Field(gt=0)] = 4.0
        warmup: Annotated[float, Field(ge=0, le=1)] = 20 / 240

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Written for one label per image."""
        return None if len(student["prediction"]) == 2 else "DKD is defined on image labels, not on dense predictions"

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``dkd``."""
        s = self.settings
        term = losses.logits.decoupled_kl(
            student.prediction, teacher.detached().prediction, step.target, s.alpha, s.beta, s.temperature
        )
        ramp = min(step.progress / s.warmup, 1.0) if s.warmup else 1.0
        return Losses(student={"dkd": ramp * term})
