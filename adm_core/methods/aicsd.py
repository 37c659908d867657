"""AICSD: how the regions of classes differ, and labels that gain weight (Mansourian et al., arXiv:2308.04243)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class InterClassSimilarity(Method):
    """``α (CE + weight · L_inter) + (1 - α) · pixel · L_pixel``, α the share of training done.

    L_inter compares the matrices of divergences between the classes' distributions over positions
    (:func:`adm_core.losses.channels.interclass_distance`); L_pixel is the divergence of predictions at T = 1, mean over
    pixels and classes, as the authors' code has it.

    As written, not as released (AmirMansurian/AICSD at f99949e): there α is commented out, the softmax runs down the
    columns of the map alone, the first argument of each divergence lacks its logarithm, one triangle of the matrix is
    copied to the other, and the number of classes is 21. The matrix is of one image here, there of the batch's mean
    divergences. Of the paper only what the authors' page and code say was at hand.
    """

    card = MethodCard(
        name="aicsd",
        title="Adaptive Inter-Class Similarity Distillation",
        paper="arXiv:2308.04243",
        year=2023,
        regimes=frozenset({"offline"}),
        family="relations",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on Pascal VOC.

        Attributes:
            weight: of L_inter; their 9500, which their code divides by the size of the batch, four by default.
            pixel: of L_pixel; 0 leaves it out.
            adaptive: whether α rises with training; without, every term has its weight throughout, which the authors
                call ICSD where ``pixel`` is 0.
        """

        weight: Annotated[float, Field(ge=0)] = searched(2375.0, 20.0, 9500.0)
        pixel: Annotated[float, Field(ge=0)] = searched(10.0, 1.0, 100.0)
        adaptive: bool = True

    needs = Needs(prediction="class_logits", views="shared")

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Classes must have positions."""
        if len(student["prediction"]) != 4:
            return "classes are compared by where they are: it needs a prediction at every position"
        return None

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``inter`` and ``pixel``; logs α."""
        s, own, target = self.settings, student.prediction, teacher.detached().prediction
        labels, other = (step.progress, 1 - step.progress) if s.adaptive else (1.0, 1.0)
        terms = {"inter": labels * s.weight * losses.channels.interclass_distance(own, target, mask=step.mask)}
        if s.pixel:
            divergence = losses.logits.kl_divergence(own, target, mask=step.mask) / own.shape[1]
            terms["pixel"] = other * s.pixel * divergence
        return Losses(student=terms, student_task=labels, log={"alpha": own.new_full((), labels)})
