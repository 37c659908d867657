"""SKD of 2026: logits matched example by example and in their relations, in Mahalanobis's distance (CVPR 2026)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class StreamlinedKD(Method):
    """``task_weight · CE + weight · (mean 1_i T² KL(p_t,i || p_s,i) + mean sqrt(D_i (cov(D) + ridge · I)⁻¹ D_iᵀ))``.

    D is how the examples' cosines of logits, over K, differ between the networks
    (:func:`adm_core.losses.relations.mahalanobis_relations`). 1_i are the examples of which the teacher's highest
    probability at T = 1 is at most the batch's median. Not ``skd``, which is for segmentation.

    Known from the authors' code alone, which multiplies both means, already taken, by masks: the first by that of the
    examples, the second by that of the classes whose probability, summed over the batch, is at most their median. There
    they only scale each term by their share, about one half; form ``as-released`` does that. That ``paper`` masks
    examples in the first term and nothing in the second, which has no classes to mask, is reconstructed: doubtful.
    """

    card = MethodCard(
        name="skd26",
        title="Streamlined Knowledge Distillation",
        paper="CVPR 2026 (StreamLined)",
        year=2026,
        regimes=frozenset({"offline"}),
        family="logits",
    )
    needs = Needs(prediction="class_logits")

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of the authors' code; for resnet32x4 > resnet8x4 both weights are 0.5.

        Attributes:
            temperature: T.
            ridge: added to the covariance's diagonal.
            weight: of both terms.
            task_weight: of the cross-entropy.
            form: ``paper`` masks examples; ``as-released`` reproduces what the released code computes.
        """

        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0)
        ridge: Annotated[float, Field(gt=0)] = 0.1
        weight: Annotated[float, Field(ge=0)] = searched(0.9, 0.1, 9.0)
        task_weight: Annotated[float, Field(ge=0)] = 0.1
        form: Literal["paper", "as-released"] = "paper"

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Relations are between examples; those between all pixels of a batch would not fit memory."""
        if len(student["prediction"]) != 2:
            return "skd26 relates the examples of a batch: it needs one prediction per example"
        return None

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``instance`` and ``relations``."""
        s, own, other = self.settings, student.prediction, teacher.detached().prediction
        sure = other.softmax(1)
        unsure, rare = (losses.difficulty.lower_half(each).to(sure) for each in (sure.amax(1), sure.sum(0)))
        instance = losses.logits.kl_map(own, other, s.temperature)
        relations = losses.relations.mahalanobis_relations(own, other, s.ridge).mean()
        if s.form == "as-released":
            terms = {"instance": instance.mean() * unsure.mean(), "relations": relations * rare.mean()}
        else:
            terms = {"instance": (instance * unsure).mean(), "relations": relations}
        return Losses(student={name: s.weight * term for name, term in terms.items()}, student_task=s.task_weight)
