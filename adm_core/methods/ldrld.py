"""LDRLD: the student's best classes pair by pair, and the rest apart (Xu et al., arXiv:2507.15911)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class LDRLD(Method):
    """``CE + local · L_local + rest · L_rest``, T² in both (arXiv:2507.15911).

    L_local is the mean divergence over all pairs of the student's k best classes and the set of the k, each
    renormalised. The pair of ranks r < r', from 1, weighs ``2 exp(-decay (r + r')) / (1.5 + r' - r)``, the set 1.
    L_rest is the divergence among the other classes. The label is not read. Of fewer than k + 1 classes all but the
    last are ranked.
    """

    card = MethodCard(
        name="ldrld",
        title="Local Dense Relational Logit Distillation",
        paper="arXiv:2507.15911",
        year=2025,
        regimes=frozenset({"offline"}),
        family="logits",
    )
    needs = Needs(prediction="class_logits")

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-100, resnet32x4 > resnet8x4; they set the weights per pair.

        Attributes:
            k: classes that are ranked.
            local: α, of the pairs and the set.
            rest: β, of the other classes.
            decay: how fast a pair's weight falls with its ranks.
            temperature: T.
        """

        k: Annotated[int, Field(ge=2)] = 7
        local: Annotated[float, Field(ge=0)] = searched(10.5, 1.0, 100.0)
        rest: Annotated[float, Field(ge=0)] = searched(7.0, 0.7, 70.0)
        decay: Annotated[float, Field(ge=0)] = 0.05
        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0)

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``ldrld``."""
        s, own, other = self.settings, student.prediction, teacher.detached().prediction
        count = min(s.k, max(own.shape[1] - 1, 2))
        local, rest = losses.partitions.local_kl(own, other, count, s.decay, s.temperature)
        return Losses(student={"ldrld": losses.spatial.masked_mean(s.local * local + s.rest * rest, step.mask)})
