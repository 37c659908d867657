"""BSD: each region is taught by the network that does better there (Zhu et al., ICCV 2023, arXiv:2307.12574)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class BSD(Method):
    """Bidirectional selective distillation between two networks that train together (reconstruction).

    ``L_s = CE + student_weight · 1/N Σ_p m_p T² KL(p_t || p_s)`` and for the teacher the reverse, with N the valid
    positions of the batch and m one at the positions where the other network is the source. Regions decide the
    direction: in each square of ``region`` positions of the prediction the network with the lower mean cross-entropy
    is the source. Pixels decide what is passed on: only where the source predicts the label. All sources are
    constants.

    A reconstruction: only the paper's abstract was at hand, by which directions are chosen between corresponding
    regions and, in the logits, which predictions are transferred. The abstract's regions lie in feature space, and its
    framework also has a distillation of low-layer features between CNN and transformer; neither is part of this.
    """

    card = MethodCard(
        name="bsd",
        title="Bidirectional Selective Distillation (reconstruction)",
        paper="arXiv:2307.12574",
        year=2023,
        regimes=frozenset({"online"}),
        family="spatial",
    )
    needs = Needs(prediction="class_logits")

    @dataclass(frozen=True)
    class Settings:
        """Ours: the paper's were not at hand.

        Attributes:
            region: side of a region in positions of the prediction; 0: no regions, both teach everywhere.
            by_pixel: whether to pass on only what the source gets right.
            temperature: T.
            student_weight: of the student's term.
            teacher_weight: of the teacher's.
        """

        region: Annotated[int, Field(ge=0)] = 4
        by_pixel: bool = True
        temperature: Annotated[float, Field(gt=0)] = searched(1.0, 1.0, 8.0)
        student_weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        teacher_weight: Annotated[float, Field(ge=0)] = 1.0

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """There must be regions to choose among."""
        return None if len(student["prediction"]) == 4 else "BSD selects regions: it needs dense predictions"

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term each, ``selective``; logs the share of valid positions at which each is the source."""
        s, masked_mean = self.settings, losses.spatial.masked_mean
        own, other = student.prediction, teacher.prediction
        from_teacher, from_student = losses.difficulty.selective_sources(
            own, other, step.target, step.mask, s.region, s.by_pixel
        )
        kl = losses.logits.kl_map
        to_student = masked_mean(from_teacher * kl(own, other.detach(), s.temperature), step.mask)
        to_teacher = masked_mean(from_student * kl(other, own.detach(), s.temperature), step.mask)
        return Losses(
            student={"selective": s.student_weight * to_student},
            teacher={"selective": s.teacher_weight * to_teacher},
            log={
                "teacher_is_source": masked_mean(from_teacher.to(own.dtype), step.mask),
                "student_is_source": masked_mean(from_student.to(own.dtype), step.mask),
            },
        )
