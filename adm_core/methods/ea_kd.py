"""EA-KD: examples weighed by the entropy of what both networks predict (arXiv:2311.13621, ICCV 2025)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class EntropyAdaptiveKD(Method):
    """``task_weight · CE + ramp · weight · mean w L(z_s, z_t)``, ``w = H_t (1 + H_s / log K) / 2`` (arXiv:2311.13621).

    H are the entropies of both networks' probabilities at a temperature of their own; no gradient passes through w.
    L is a loss of logits: KD's, ``T² KL``, or DKD's, ``alpha · TCKD + beta · NCKD``. The mean of w is not one, so
    that it changes the loss's weight as well; it is logged, for a control of ``kd`` with as much weight. Of dense
    predictions L and w are those of each pixel. The authors also weigh MLKD and feature losses, which this does not.
    """

    card = MethodCard(
        name="ea-kd",
        title="Entropy-based Adaptive Knowledge Distillation",
        paper="arXiv:2311.13621",
        year=2025,
        regimes=frozenset({"offline"}),
        family="logits",
    )
    needs = Needs(prediction="class_logits")

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-100 with KD.

        Attributes:
            base: L. With ``dkd`` weights are 1 and the warm-up is 20 of 240 epochs.
            form: ``as-released`` divides H_s by 100, as the authors' code on CIFAR-100 does, in place of log K.
            entropy_temperature: of the entropies; 2 on ImageNet.
            temperature: T of L.
            weight: of the weighed loss.
            task_weight: of the cross-entropy.
            alpha: DKD's, of the target class.
            beta: DKD's, of the other classes.
            warmup: share of training in which the loss rises to its full weight.
        """

        base: Literal["kd", "dkd"] = "kd"
        form: Literal["paper", "as-released"] = "paper"
        entropy_temperature: Annotated[float, Field(gt=0)] = 3.0
        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0)
        weight: Annotated[float, Field(ge=0)] = searched(0.9, 0.1, 9.0)
        task_weight: Annotated[float, Field(ge=0)] = 0.1
        alpha: Annotated[float, Field(ge=0)] = 1.0
        beta: Annotated[float, Field(ge=0)] = 8.0
        warmup: Annotated[float, Field(ge=0, le=1)] = 0.0

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``weighed``; the mean of w is logged."""
        s, own, other = self.settings, student.prediction, teacher.detached().prediction
        bound = math.log(own.shape[1]) if s.form == "paper" else 100.0
        weight = losses.difficulty.entropy_weight(own, other, s.entropy_temperature, bound)
        if s.base == "kd":
            each = losses.logits.kl_map(own, other, s.temperature)
        else:
            target = losses.spatial.at_size(step.target, own.shape[2:])
            each = losses.partitions.decoupled_map(own, other, target, s.alpha, s.beta, s.temperature)
        term = step.ramp(s.warmup) * s.weight * losses.spatial.masked_mean(weight * each, step.mask)
        log = {"weight": losses.spatial.masked_mean(weight, step.mask)}
        return Losses(student={"weighed": term}, student_task=s.task_weight, log=log)
