"""CTKD: a temperature that learns to make distillation hard, more and more (Li et al., arXiv:2211.16231)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import nn


@register
class CTKD(Method):
    """``task_weight · CE + weight · T² KL(p_t(T) || p_s(T))`` with ``T = lowest + span · sigmoid(θ)``, θ learnt.

    The student descends the divergence and θ, one number for all examples, ascends it: its gradient is multiplied by
    -λ, and λ rises from 0 to 1 along a cosine (arXiv:2211.16231). θ starts at 1, so that T does at 15.6, and is trained
    by the student's optimiser, decay of weights included. The paper's other form, a small network that gives each
    example its own T, is not here.
    """

    card = MethodCard(
        name="ctkd",
        title="Curriculum Temperature for Knowledge Distillation",
        paper="arXiv:2211.16231",
        year=2023,
        regimes=frozenset({"offline"}),
        family="logits",
    )
    needs = Needs(prediction="class_logits", capabilities=frozenset({"trainable-parts"}))

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-100.

        Attributes:
            lowest: the lowest temperature.
            span: by how much the highest is above it.
            weight: of the divergence.
            task_weight: of the cross-entropy.
            curriculum: share of training over which λ rises; 10 of 240 epochs.
        """

        lowest: Annotated[float, Field(gt=0)] = 1.0
        span: Annotated[float, Field(gt=0)] = 20.0
        weight: Annotated[float, Field(ge=0)] = searched(0.9, 0.1, 9.0)
        task_weight: Annotated[float, Field(ge=0)] = 0.1
        curriculum: Annotated[float, Field(ge=0, le=1)] = 10 / 240

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The number θ."""
        import torch
        from torch import nn

        return {"temperature": nn.ParameterDict({"theta": nn.Parameter(torch.ones(()))})}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``kd``; the log holds the temperature."""
        s = self.settings
        strength = (1 - math.cos(math.pi * step.ramp(s.curriculum))) / 2
        theta = losses.adversarial.reversed_gradient(self.parts["temperature"]["theta"], strength)  # type: ignore[index]
        temperature = s.lowest + s.span * theta.sigmoid()
        term = losses.logits.kl_divergence(student.prediction, teacher.detached().prediction, temperature, step.mask)
        log = {"temperature": temperature.detach()}
        return Losses(student={"kd": s.weight * term}, student_task=s.task_weight, log=log)
