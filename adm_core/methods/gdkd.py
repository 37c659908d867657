"""GDKD: the teacher's best classes against the rest, and both among themselves (Zheng & Cheng, arXiv:2512.04625)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class GDKD(Method):
    """``CE + ramp · T² mean (w0 KL_between + w1 KL_top + w2 KL_rest)`` (arXiv:2512.04625), ramped up linearly.

    The teacher's k best classes are one group, all others the second: the divergence between the probabilities of the
    groups, and those within each, renormalised. The label is not read. With k = 1 where the teacher is right it is DKD
    with alpha = w0, beta = w2. Of fewer than k + 1 classes all but the last are the group.
    """

    card = MethodCard(
        name="gdkd",
        title="Generalized Decoupled Knowledge Distillation",
        paper="arXiv:2512.04625",
        year=2025,
        regimes=frozenset({"offline"}),
        family="logits",
    )
    needs = Needs(prediction="class_logits")

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of the authors' code; per pair it sets w1 to 1 or 2 and w2 to 1, 6 or 8 on CIFAR-100.

        Attributes:
            k: classes in the first group.
            between: w0, of the divergence between the groups.
            top: w1, of that within the first group.
            rest: w2, of that within the second.
            temperature: T.
            warmup: share of training in which the loss rises to its full weight; 20 of 240 epochs.
        """

        k: Annotated[int, Field(ge=1)] = 5
        between: Annotated[float, Field(ge=0)] = 1.0
        top: Annotated[float, Field(ge=0)] = 1.0
        rest: Annotated[float, Field(ge=0)] = searched(8.0, 0.5, 20.0)
        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0)
        warmup: Annotated[float, Field(ge=0, le=1)] = 20 / 240

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``gdkd``."""
        s, own, other = self.settings, student.prediction, teacher.detached().prediction
        best = other.topk(min(s.k, other.shape[1] - 1), dim=1).indices
        group = losses.partitions.class_group(other, best)
        between, top, rest = losses.partitions.grouped_kl(own, other, group, s.temperature)
        each = s.between * between + s.top * top + s.rest * rest
        return Losses(student={"gdkd": step.ramp(s.warmup) * losses.spatial.masked_mean(each, step.mask)})
