"""Output matching: predict what the teacher predicts at the same noisy example (Kim et al., arXiv:2305.15798)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class Output(Method):
    """``weight · mean (ε_s - ε_t)²`` beside the task's loss: BK-SDM's L_OutKD alone (arXiv:2305.15798, eq. 2)."""

    card = MethodCard(
        name="output",
        title="Output matching",
        paper="arXiv:2305.15798",
        year=2023,
        regimes=frozenset({"offline"}),
        family="logits",
    )
    needs = Needs(prediction="denoiser")

    @dataclass(frozen=True)
    class Settings:
        """The weight is the paper's."""

        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``output``."""
        error = (student.prediction - teacher.detached().prediction).pow(2).mean()
        return Losses(student={"output": self.settings.weight * error})
