"""NormKD: a temperature for each example, by the spread of its logits (Chi et al., arXiv:2308.00520)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class NormKD(Method):
    """``task_weight · CE + weight · mean T_t² KL(softmax(z_t / T_t) || softmax(z_s / T_s))`` (arXiv:2308.00520).

    ``T = scale · std(z)`` over the classes of an example (or position), for each network its own; gradients pass
    through the student's. Logit standardisation, ``kd`` with ``standardise``, has one T and one T² for all examples.
    """

    card = MethodCard(
        name="normkd",
        title="Normalized Logits for Knowledge Distillation",
        paper="arXiv:2308.00520",
        year=2023,
        regimes=frozenset({"offline"}),
        family="logits",
    )
    needs = Needs(prediction="class_logits")

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-100.

        Attributes:
            scale: temperature by standard deviation.
            weight: of the divergence.
            task_weight: of the cross-entropy.
        """

        scale: Annotated[float, Field(gt=0)] = searched(2.0, 0.5, 8.0)
        weight: Annotated[float, Field(ge=0)] = searched(0.9, 0.1, 9.0)
        task_weight: Annotated[float, Field(ge=0)] = 0.1

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``normkd``."""
        s = self.settings
        each = losses.logits.normalised_kl(student.prediction, teacher.detached().prediction, s.scale)
        term = losses.spatial.masked_mean(each, step.mask)
        return Losses(student={"normkd": s.weight * term}, student_task=s.task_weight)
