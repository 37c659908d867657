"""RLD: what the teacher says, less what contradicts the label (Sun et al., arXiv:2408.07703, ICCV 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor


@register
class RLD(Method):
    """``CE + ramp · mean (alpha · SCD + beta · MCD)`` (arXiv:2408.07703), ramped up linearly.

    - SCD, sample confidence: ``T_a² KL((m_t, 1 - m_t) || (p_s,y, 1 - p_s,y))``, m_t the teacher's highest probability,
      whichever class it is of;
    - MCD, masked correlation: T² KL among the classes to which the teacher gives a lower logit than to the label.

    Where the teacher is right these are DKD's two parts. ``correction`` has the ways to mend a teacher by the label
    that the authors compare with, as their code has them, without a ramp:

    - ``swap``: KD alone from logits of which the highest and the label's are exchanged (arXiv:1911.07471);
    - ``rc``: ``CE + KD + 0.1 T² KL`` from the student's own logits, the label's raised by their maximum;
    - ``lr``: where the teacher is right ``CE + 4 MSE`` of logits, elsewhere the MSE of probabilities from
      ``β p_t + (1 - β) one-hot(y)``, ``β = 0.8 / (max p_t - p_t,y + 1)`` (arXiv:2404.03693).
    """

    card = MethodCard(
        name="rld",
        title="Refined Logit Distillation",
        paper="arXiv:2408.07703",
        year=2025,
        regimes=frozenset({"offline"}),
        family="logits",
    )
    needs = Needs(prediction="class_logits")

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of the authors' code on CIFAR-100; the paper sets weights per pair.

        Attributes:
            alpha: of SCD.
            beta: of MCD.
            temperature: T, of MCD and of the corrections.
            confidence_temperature: T_a, of SCD.
            warmup: share of training in which the loss rises to its full weight; 20 of 240 epochs.
            correction: ``refined`` is the method; the others are controls.
            standardise: logits of both networks first (arXiv:2403.01427); ``lr`` reads them as they are.
        """

        alpha: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0, acts=lambda s, _: s.correction == "refined")
        beta: Annotated[float, Field(ge=0)] = searched(8.0, 0.5, 20.0, acts=lambda s, _: s.correction == "refined")
        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0, acts=lambda s, _: s.correction != "lr")
        confidence_temperature: Annotated[float, Field(gt=0)] = 1.0
        warmup: Annotated[float, Field(ge=0, le=1)] = 20 / 240
        correction: Literal["refined", "swap", "rc", "lr"] = "refined"
        standardise: bool = False

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``confidence`` and ``correlation``; of a correction ``kd`` and ``review``, or the parts of ``lr``."""
        s, own, other = self.settings, student.prediction, teacher.detached().prediction
        target = losses.spatial.at_size(step.target, own.shape[2:])
        if s.correction == "lr":
            terms = losses.corrections.label_revision(own, other, target, step.mask)
            return Losses(student=terms, student_task=0.0)
        if s.correction == "swap":
            other = losses.corrections.swapped(other, target)
        if s.standardise:
            own, other = losses.logits.standardised(own), losses.logits.standardised(other)
        if s.correction == "refined":
            return Losses(student=self._refined(own, other, target, step))
        terms = {"kd": losses.logits.kl_divergence(own, other, s.temperature, step.mask)}
        if s.correction == "swap":
            return Losses(student=terms, student_task=0.0)
        review = losses.corrections.self_review(own, target, s.temperature)
        return Losses(student=terms | {"review": 0.1 * losses.spatial.masked_mean(review, step.mask)})

    def _refined(self, own: Tensor, other: Tensor, target: Tensor, step: Step) -> dict[str, Tensor]:
        s, ramp = self.settings, step.ramp(self.settings.warmup)
        confidence = losses.partitions.confidence_kl(own, other, target, s.confidence_temperature)
        correlation = losses.partitions.lower_ranked_kl(own, other, target, s.temperature)
        return {
            "confidence": ramp * s.alpha * losses.spatial.masked_mean(confidence, step.mask),
            "correlation": ramp * s.beta * losses.spatial.masked_mean(correlation, step.mask),
        }
