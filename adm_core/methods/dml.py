"""DML: two networks learn from each other's predictions (Zhang et al., arXiv:1706.00384)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register


@register
class DML(Method):
    """Each network: ``CE + weight · T² KL(p_peer || p_own)``, the peer detached (arXiv:1706.00384, eqs. 4-7).

    Both are updated in the same step from one forward each, as later implementations do; the paper alternates.
    """

    card = MethodCard(
        name="dml",
        title="Deep Mutual Learning",
        paper="arXiv:1706.00384",
        year=2018,
        regimes=frozenset({"online"}),
        family="logits",
    )
    needs = Needs(prediction="class_logits")

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the paper's: T = 1, weight 1 on both sides."""

        temperature: Annotated[float, Field(gt=0)] = 1.0
        student_weight: Annotated[float, Field(ge=0)] = 1.0
        teacher_weight: Annotated[float, Field(ge=0)] = 1.0

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term each, ``mutual``."""
        s = self.settings
        kl = losses.logits.kl_divergence
        to_student = kl(student.prediction, teacher.detached().prediction, s.temperature, step.mask)
        to_teacher = kl(teacher.prediction, student.detached().prediction, s.temperature, step.mask)
        return Losses(
            student={"mutual": s.student_weight * to_student}, teacher={"mutual": s.teacher_weight * to_teacher}
        )
