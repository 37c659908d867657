"""NKD: the target's class and the renormalised other classes, both by cross-entropy (Yang et al., arXiv:2303.13005)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class NKD(Method):
    """``CE - mean p_t,y log p_s,y + weight · T² mean H(q_t, q_s)`` (arXiv:2303.13005, section 3).

    p are probabilities at temperature 1, q those of all classes but the target's, renormalised, at temperature T; H is
    the cross-entropy, whose gradient is that of DKD's divergence among the other classes. Of dense predictions it is
    the mean over valid pixels.
    """

    card = MethodCard(
        name="nkd",
        title="Normalized Knowledge Distillation",
        paper="arXiv:2303.13005",
        year=2023,
        regimes=frozenset({"offline"}),
        family="logits",
    )
    needs = Needs(prediction="class_logits")

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on ImageNet and those of their loss; on CIFAR-100 they set T = 3, weight 3.5.

        Attributes:
            weight: γ, of the part of the other classes.
            temperature: T.
            standardise: logits of both networks in that part first (arXiv:2403.01427).
        """

        weight: Annotated[float, Field(ge=0)] = searched(1.5, 0.15, 15.0)
        temperature: Annotated[float, Field(gt=0)] = searched(1.0, 1.0, 8.0)
        standardise: bool = False

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``target`` and ``others``."""
        s, own, other = self.settings, student.prediction, teacher.detached().prediction
        target = losses.spatial.at_size(step.target, own.shape[2:])
        terms = {"target": losses.logits.target_cross_entropy(own, other, target, step.mask)}
        if s.standardise:
            own, other = losses.logits.standardised(own), losses.logits.standardised(other)
        log_s, log_t = (losses.logits.log_softmax_of_others(z, target, s.temperature) for z in (own, other))
        others = losses.spatial.masked_mean(losses.logits.soft_cross_entropy(log_s, log_t), step.mask)
        return Losses(student=terms | {"others": s.weight * s.temperature**2 * others})
