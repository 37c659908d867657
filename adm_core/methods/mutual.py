"""Mutual learning of two denoisers: DML (Zhang et al., arXiv:1706.00384) with squared errors in place of KL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class Mutual(Method):
    """Each denoiser: its own loss ``+ weight · mean (ε_own - ε_peer)²``, the peer's prediction detached.

    Two Gaussians of one variance around the predictions have this as their KL divergence, up to scale; so it is DML
    for regression. Both networks see the same noisy examples.
    """

    card = MethodCard(
        name="mutual",
        title="Mutual learning of denoisers",
        paper="arXiv:1706.00384",
        year=2018,
        regimes=frozenset({"online"}),
        family="logits",
    )
    needs = Needs(prediction="denoiser")

    @dataclass(frozen=True)
    class Settings:
        """The larger network follows the smaller one only a little: our choice, the paper's peers are equals."""

        student_weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        teacher_weight: Annotated[float, Field(ge=0)] = 0.1

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term each, ``mutual``."""
        to_student = (student.prediction - teacher.detached().prediction).pow(2).mean()
        to_teacher = (teacher.prediction - student.detached().prediction).pow(2).mean()
        return Losses(
            student={"mutual": self.settings.student_weight * to_student},
            teacher={"mutual": self.settings.teacher_weight * to_teacher},
        )
