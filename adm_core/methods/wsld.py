"""WSLD: soft labels weighted by how much harder an example is for the student (Zhou et al., arXiv:2102.00650)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class WSLD(Method):
    """``CE + weight · T² mean w H(p_t(T), p_s(T))``, ``w = 1 - exp(-CE_s / CE_t)`` (arXiv:2102.00650).

    H is the cross-entropy of soft labels. w is a constant, of both networks' cross-entropies at temperature 1: an
    example that the student finds easy, and the teacher hard, teaches little.
    """

    card = MethodCard(
        name="wsld",
        title="Weighted Soft Labels",
        paper="arXiv:2102.00650",
        year=2021,
        regimes=frozenset({"offline"}),
        family="logits",
    )
    needs = Needs(prediction="class_logits")

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of the CIFAR-100 configuration of NKD's code; on ImageNet weight 2.5 and T = 2.

        Attributes:
            weight: α, of the soft labels.
            temperature: T.
        """

        weight: Annotated[float, Field(ge=0)] = searched(2.25, 0.2, 20.0)
        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0)

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``wsld``."""
        s, own, other = self.settings, student.prediction, teacher.detached().prediction
        target = losses.spatial.at_size(step.target, own.shape[2:])
        weight = losses.difficulty.relative_difficulty(own, other, target)
        log_s, log_t = ((z / s.temperature).log_softmax(1) for z in (own, other))
        each = weight * losses.logits.soft_cross_entropy(log_s, log_t)
        return Losses(student={"wsld": s.weight * s.temperature**2 * losses.spatial.masked_mean(each, step.mask)})
