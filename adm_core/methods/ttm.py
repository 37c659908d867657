"""TTM: match the teacher's probabilities, raised to a power (Zheng & Yang, arXiv:2402.11148)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class TTM(Method):
    """``CE + weight · mean KL(q || p_s)``, ``q = p_t^γ / Σ_c p_t,c^γ`` (arXiv:2402.11148, section 3).

    A power of the teacher's probabilities is a teacher at temperature 1 / γ; the student is at temperature 1, and there
    is no T². With γ = 1 it is KD at T = 1.
    """

    card = MethodCard(
        name="ttm",
        title="Transformed Teacher Matching",
        paper="arXiv:2402.11148",
        year=2024,
        regimes=frozenset({"offline"}),
        family="logits",
    )
    needs = Needs(prediction="class_logits")

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of the authors' example on CIFAR-100, vgg13 > vgg8; they set both per pair.

        Attributes:
            exponent: γ.
            weight: β, of the divergence.
        """

        exponent: Annotated[float, Field(gt=0)] = searched(0.1, 0.05, 1.0)
        weight: Annotated[float, Field(ge=0)] = searched(45.0, 1.0, 100.0)

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``ttm``."""
        s = self.settings
        divergence, _ = losses.logits.transformed_kl(student.prediction, teacher.detached().prediction, s.exponent)
        return Losses(student={"ttm": s.weight * losses.spatial.masked_mean(divergence, step.mask)})
