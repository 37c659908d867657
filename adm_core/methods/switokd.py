"""SwitOKD: pause the teacher while it is too far ahead (Qian et al., ECCV 2022, "Switchable Online KD")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class SwitOKD(Method):
    """DML whose teacher is switched off (expert mode) when the gap exceeds an adaptive threshold.

    With batch means of L1 distances G = |p_s - p_t|, a_s = |p_s - y|, a_t = |p_t - y| the threshold is
    ``a_s - exp(-a_t / (a_s + a_t)) · a_t``; expert mode holds when G is above it and a_t < a_s. The decision
    costs one device synchronisation per step, as in the authors' code.
    """

    card = MethodCard(
        name="switokd",
        title="Switchable Online Knowledge Distillation",
        paper="ECCV 2022, Qian et al.",
        year=2022,
        regimes=frozenset({"online"}),
        family="logits",
    )
    needs = Needs(prediction="class_logits", capabilities=frozenset({"pauses-teacher", "host-synchronisation"}))

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' code: T = 1, weight 1."""

        temperature: Annotated[float, Field(gt=0)] = searched(1.0, 1.0, 8.0)
        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """The switch is defined on image labels."""
        return None if len(student["prediction"]) == 2 else "the switch is defined on image labels, not on pixels"

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term each, ``mutual``; logs the share of expert-mode steps and the gap."""
        s, kl = self.settings, losses.logits.kl_divergence
        to_student = kl(student.prediction, teacher.detached().prediction, s.temperature)
        gap, student_error, teacher_error = losses.relations.switch_distances(
            student.detached().prediction, teacher.detached().prediction, step.target
        )
        threshold = student_error - (-teacher_error / (student_error + teacher_error)).exp() * teacher_error
        expert = (gap > threshold) & (teacher_error < student_error)
        log = {"expert": expert.to(gap.dtype), "gap": gap}
        if bool(expert):
            return Losses(student={"mutual": s.weight * to_student}, teacher_paused=True, log=log)
        to_teacher = kl(teacher.prediction, student.detached().prediction, s.temperature)
        return Losses(student={"mutual": s.weight * to_student}, teacher={"mutual": s.weight * to_teacher}, log=log)
