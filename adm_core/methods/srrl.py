"""SRRL: softmax regression representation learning (Yang et al., ICLR 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import nn


@register
class SoftmaxRegression(Method):
    """``feature_weight · mean (f - f_t)² + logit_weight · mean (W_t f + b_t - z_t)²``, f = ReLU(BN(W f_s)).

    The student's vector, brought to the teacher's width, must be the teacher's, and must be read by the teacher's own
    classifier as that reads its own (Yang et al., ICLR 2021, section 3, with the squared error between logits that
    they found best). Means are over all elements; the teacher's classifier does not train.
    """

    card = MethodCard(
        name="srrl",
        title="Softmax Regression Representation Learning",
        paper="ICLR 2021, Yang et al.",
        year=2021,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are cls_KD's on CIFAR-100. The authors' code, for ImageNet, has 1 and 1, as SimKD's has here.

        Attributes:
            feature_weight: of the vectors' term; 0 leaves it out.
            logit_weight: of the logits' term; 0 leaves it out.
        """

        feature_weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        logit_weight: Annotated[float, Field(ge=0)] = searched(5.0, 0.5, 50.0)

    needs = Needs("class_logits", taps=("penultimate",), head=True, capabilities=frozenset({"trainable-parts"}))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Classifiers must read one vector for each example, the teacher's by a linear layer."""
        if len(student["penultimate"]) != 2 or len(teacher["penultimate"]) != 2 or "head" not in teacher:
            return "SRRL needs one vector for each example, read by a linear classifier of the teacher"
        return None

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The connector to the teacher's width."""
        from torch import nn

        own, width = student["penultimate"][1], teacher["penultimate"][1]
        connector = nn.Sequential(nn.Linear(own, width, bias=False), nn.BatchNorm1d(width), nn.ReLU())
        return {"connector": connector}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``features`` and ``regression``."""
        s, target, terms = self.settings, teacher.detached(), {}
        vectors = self.parts["connector"](student.features["penultimate"])
        if s.feature_weight:
            terms["features"] = s.feature_weight * (vectors - target.features["penultimate"]).pow(2).mean()
        if s.logit_weight:
            assert target.head is not None  # supports() asks for it
            terms["regression"] = s.logit_weight * (target.head(vectors) - target.prediction).pow(2).mean()
        return Losses(student=terms)
