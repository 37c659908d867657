"""DML: networks learn from each other's predictions (Zhang et al., arXiv:1706.00384)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor


@register
class DML(Method):
    """Each network: ``CE + weight · T² KL(p_peer || p_own)``, the peer detached (arXiv:1706.00384, eqs. 4-7).

    Of K equal networks each takes the mean of the divergences from the K - 1 others (eq. 8), with weight 1. All are
    updated in the same step from one forward each, as later implementations do; the paper alternates.
    """

    card = MethodCard(
        name="dml",
        title="Deep Mutual Learning",
        paper="arXiv:1706.00384",
        year=2018,
        regimes=frozenset({"online", "peers"}),
        family="logits",
    )
    only_in: ClassVar[Mapping[str, str]] = {"networks": "peers", "student_weight": "online", "teacher_weight": "online"}

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the paper's: T = 1, weight 1 on both sides, two networks.

        Attributes:
            temperature: T.
            student_weight: of the student's divergence from the teacher, online.
            teacher_weight: of the teacher's divergence from the student, online.
            networks: K, among peers.
        """

        temperature: Annotated[float, Field(gt=0)] = searched(1.0, 1.0, 8.0)
        student_weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        teacher_weight: Annotated[float, Field(ge=0)] = 1.0
        networks: Annotated[int, Field(ge=2)] = 2

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Class logits; K networks among peers."""
        return Needs("class_logits", peers=self.settings.networks - 1)

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term each, ``mutual``."""
        s = self.settings

        def divergence(own: View, other: View) -> Tensor:
            target = other.detached().prediction
            return losses.logits.kl_divergence(own.prediction, target, s.temperature, step.mask)

        if teacher is not None:
            to_student, to_teacher = divergence(student, teacher), divergence(teacher, student)
            return Losses(
                student={"mutual": s.student_weight * to_student}, teacher={"mutual": s.teacher_weight * to_teacher}
            )
        terms = {}
        for role, own in step.views.items():
            each = [divergence(own, other) for peer, other in step.views.items() if peer != role]
            terms[role] = {"mutual": sum(each[1:], each[0]) / len(each)}
        return Losses.of_roles(terms)
