"""RDD: the task's loss re-weighted over pixels by relative difficulty (Liang et al., arXiv:2407.03719)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.card import AUXILIARY
from adm_core.method import Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register

if TYPE_CHECKING:
    from torch import Tensor


@register
class RDD(Method):
    """The student's task loss, its positions weighted by how hard they are for both networks (reconstruction).

    ``L = Σ_p w_p · L_task(p) / N`` in place of the plain mean, with constant weights w. With p(y) the probability of
    the label:

    - stage 1, for the share ``warmup`` of training (teacher-full evaluated): ``w = exp(-KL(q_aux ‖ q))`` with q the
      prediction of the teacher's classifier and q_aux that of its auxiliary one, so that the student begins with what
      the teacher is sure of; N is the number of valid pixels;
    - stage 2 (teacher-student evaluated): w is one where exactly one of the two networks finds the pixel hard, else
      zero; N is the number of such pixels. Hard is p(y) at most ``threshold``, or at most the value that the share
      ``least`` of all pixels does not exceed, whichever is more.

    No term is added. The authors train it beside pixel-wise KD of weight 1 at T = 1: compose ``kd+rdd`` with
    ``kd: {temperature: 1, weight: 1, task_weight: 0}``; with another task weight the two contradict each other.

    A reconstruction from the public code (its defaults and both stages), in three points other: where a network has no
    auxiliary classifier, stage 1 has ``exp(-H)``, H the entropy of q; a batch in which no pixel is hard for one network
    alone keeps the weights of stage 1 (there its loss is not a number); and class weights and the student's auxiliary
    loss are the task's and stay as they are (there stage 2 selects the pixels of the auxiliary loss as well).
    """

    card = MethodCard(
        name="rdd",
        title="Relative Difficulty Distillation (reconstruction)",
        paper="arXiv:2407.03719",
        year=2024,
        regimes=frozenset({"offline"}),
        family="spatial",
        version=3,  # the student's auxiliary loss stays
    )
    needs = Needs(prediction="class_logits", optional=(AUXILIARY,))

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of the authors' Cityscapes script: 4,000 of 40,000 steps, 0.7, 100,000 of 2 M pixels."""

        warmup: Annotated[float, Field(ge=0, le=1)] = 0.1
        threshold: Annotated[float, Field(ge=0, le=1)] = 0.7
        least: Annotated[float, Field(ge=0, le=1)] = 0.05

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """There must be pixels to weigh."""
        return None if len(student["prediction"]) == 4 else "RDD weighs pixels: it needs dense predictions"

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``weighted``, in place of the task's own; logs the mean weight over valid pixels."""
        s, difficulty, masked_mean = self.settings, losses.difficulty, losses.spatial.masked_mean
        auxiliary = teacher.features.get(AUXILIARY)
        weights: Tensor = difficulty.certainty(teacher.prediction, auxiliary, step.target.shape[1:])
        counted = step.mask
        if step.progress >= s.warmup:
            hard = [
                difficulty.hard_pixels(v.prediction, step.target, step.mask, s.threshold, s.least)
                for v in (student, teacher)
            ]
            chosen = hard[0] ^ hard[1]
            everywhere = chosen.new_ones(chosen.shape) if counted is None else counted
            weights = chosen.to(weights.dtype).where(chosen.any(), weights)
            counted = chosen.where(chosen.any(), everywhere)
        term = masked_mean(weights * student.task_loss, counted)
        log = {"weight": masked_mean(weights, step.mask)}
        return Losses(student={"weighted": term}, student_task=0.0, student_auxiliary=1.0, log=log)
