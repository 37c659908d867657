"""KD: match the teacher's softened class probabilities (Hinton, Vinyals, Dean; arXiv:1503.02531)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class KD(Method):
    """``task_weight · CE + weight · T² KL(p_t(T) || p_s(T))``, mean over examples (and positions)."""

    card = MethodCard(
        name="kd",
        title="Knowledge Distillation",
        paper="arXiv:1503.02531",
        year=2015,
        regimes=frozenset({"offline"}),
        family="logits",
    )
    needs = Needs(prediction="class_logits")

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of RepDistiller and mdistiller on CIFAR-100: T = 4, 0.9 KD, 0.1 CE.

        Attributes:
            temperature: T.
            weight: of the divergence.
            task_weight: of the cross-entropy.
            standardise: logits of both networks first (Sun et al., arXiv:2403.01427); with T = 2 the authors set the
                weight to 9 on CIFAR-100.
        """

        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0)
        weight: Annotated[float, Field(ge=0)] = searched(0.9, 0.1, 9.0)
        task_weight: Annotated[float, Field(ge=0)] = 0.1
        standardise: bool = False

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``kd``."""
        s, own, other = self.settings, student.prediction, teacher.detached().prediction
        if s.standardise:
            own, other = losses.logits.standardised(own), losses.logits.standardised(other)
        term = losses.logits.kl_divergence(own, other, s.temperature, step.mask)
        return Losses(student={"kd": s.weight * term}, student_task=s.task_weight)
