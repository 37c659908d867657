"""DeepKD: momenta of their own for task, target class and other classes, few of these first (arXiv:2505.15133)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from adm_core import losses
from adm_core.card import TASK
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class DeepKD(Method):
    """``task_weight · CE + TCKD + mean w NCKD``, each with momentum ``μ + Δ`` of its own; ``v ← (μ + Δ) v + g``.

    TCKD and NCKD are DKD's parts, of the target class and of the others. With base ``kd`` w is ``1 - p_t,y`` at T, so
    that with all classes the sum is KD's divergence; with ``dkd`` the parts weigh alpha and beta, after a warm-up. Of
    the others those n count that the teacher ranks highest, n rising with training from the share ``start`` to all of
    them. μ is the recipe's momentum; weight decay joins the task's gradient. Of dense predictions it is per pixel.

    Doubtful: how n rises, of which we know no numbers; here it does so linearly.

    The released code has n off, takes w's mean before it multiplies, and moves the task's gradient with the target
    class's momentum whatever Δ is set for it; form ``as-released`` does that.
    """

    card = MethodCard(
        name="deepkd",
        title="Deeply Decoupled and Denoised Knowledge Distillation",
        paper="arXiv:2505.15133",
        year=2025,
        regimes=frozenset({"offline"}),
        family="optimisation",
    )
    needs = Needs(prediction="class_logits", gradient_groups=True)

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-100 with KD, but for ``start``.

        Attributes:
            base: the loss that is taken apart. With ``dkd`` the authors' task weight is 1.
            form: ``as-released`` reproduces what the released code computes.
            temperature: T.
            task_delta: Δ of the task.
            target_delta: Δ of the target class's part.
            other_delta: Δ of the other classes' part; between 0.025 and 0.075 by pair.
            start: share of the other classes that count at first, two at least; 1: all of them throughout.
            task_weight: of the cross-entropy.
            alpha: DKD's, of the target class.
            beta: DKD's, of the other classes.
            warmup: DKD's; share of training in which both parts rise to their full weight.
        """

        base: Literal["kd", "dkd"] = "kd"
        form: Literal["paper", "as-released"] = "paper"
        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0)
        task_delta: Annotated[float, Field(gt=-1, lt=1)] = searched(
            0.075, -0.075, 0.09, scale="linear", acts=lambda s, _: s.form == "paper"
        )
        target_delta: Annotated[float, Field(gt=-1, lt=1)] = searched(-0.075, -0.3, 0.075, scale="linear")
        other_delta: Annotated[float, Field(gt=-1, lt=1)] = searched(0.075, -0.075, 0.09, scale="linear")
        start: Annotated[float, Field(ge=0, le=1)] = 0.05
        task_weight: Annotated[float, Field(ge=0)] = 0.1
        alpha: Annotated[float, Field(ge=0)] = 1.0
        beta: Annotated[float, Field(ge=0)] = 8.0
        warmup: Annotated[float, Field(ge=0, le=1)] = 20 / 240

    def momentum(self) -> Mapping[str, float]:
        """Of the task and of both terms."""
        s = self.settings
        task = s.target_delta if s.form == "as-released" else s.task_delta
        return {TASK: task, "target": s.target_delta, "others": s.other_delta}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``target`` and ``others``."""
        s, own, other = self.settings, student.prediction, teacher.detached().prediction
        mean, label = losses.spatial.masked_mean, losses.spatial.at_size(step.target, own.shape[2:])
        group = losses.partitions.class_group(own, label[:, None])
        between, _, _ = losses.partitions.grouped_kl(own, other, group, s.temperature)
        best = losses.partitions.best_others_kl(own, other, label, self._count(own.shape[1] - 1, step), s.temperature)

        if s.base == "dkd":
            ramp = step.ramp(s.warmup)
            terms = {
                "target": ramp * s.alpha * mean(between, step.mask),
                "others": ramp * s.beta * mean(best, step.mask),
            }
            return Losses(student=terms, student_task=s.task_weight)
        rest = 1 - (other / s.temperature).softmax(1).gather(1, label[:, None])[:, 0]
        weighed = mean(rest * best, step.mask)
        if s.form == "as-released":
            weighed = mean(rest, step.mask) * mean(best, step.mask)
        return Losses(student={"target": mean(between, step.mask), "others": weighed}, student_task=s.task_weight)

    def _count(self, classes: int, step: Step) -> int:
        start = 1.0 if self.settings.form == "as-released" else self.settings.start
        share = start + (1 - start) * step.progress
        return min(max(math.ceil(share * classes), 2), classes)
