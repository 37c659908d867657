"""CRLD: predictions matched within and across a weak and a strong view (Zhang et al., ACM MM 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class CrossViewConsistency(Method):
    """``task_weight · (CE + CE_strong) + within · mean [KL_ww + KL_ss] 1_w + across · mean [KL_ws + KL_sw] 1_s``.

    ``KL_ab`` is ``T² KL(p_t(T) || p_s(T))`` of the teacher on view a and the student on view b, w the weak and s the
    strong one. 1_w are the examples of which the teacher's highest probability on the weak view, at T = 1, is at least
    ``weak_confidence``; 1_s those of which that on the strong view is at least ``strong_confidence``. Means are over
    all examples, so that what is left out counts as zero. In the form of the authors' code; whether the paper's
    is another is not known to us. Their strong view also has Cutout; here it is the task's.
    """

    card = MethodCard(
        name="crld",
        title="Cross-View Consistency Regularisation",
        paper="ACM MM 2024 (Zhang et al.)",
        year=2024,
        regimes=frozenset({"offline"}),
        family="logits",
    )
    needs = Needs(prediction="class_logits", extra_view="strong")

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of the authors' code on CIFAR-100.

        Attributes:
            temperature: T.
            within: weight of the term within views.
            across: weight of the term across them.
            weak_confidence: least probability on the weak view.
            strong_confidence: least probability on the strong view.
            task_weight: of the cross-entropy on each of the views.
        """

        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0)
        within: Annotated[float, Field(ge=0)] = searched(2.0, 0.2, 20.0)
        across: Annotated[float, Field(ge=0)] = searched(0.5, 0.05, 5.0)
        weak_confidence: Annotated[float, Field(ge=0, le=1)] = 0.9
        strong_confidence: Annotated[float, Field(ge=0, le=1)] = 0.2
        task_weight: Annotated[float, Field(ge=0)] = 1.0

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Strong views move what is in an image."""
        if len(student["prediction"]) != 2:
            return "CRLD compares views of an image whose pixels do not correspond: it needs one prediction per example"
        return None

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``within``, ``across``, and ``strong_task``, the cross-entropy on the strong view."""
        s, strong = self.settings, step.extra["student"]
        weak_s, weak_t = student.prediction, teacher.detached().prediction
        strong_s, strong_t = strong.prediction, step.extra["teacher"].detached().prediction
        sure_w = weak_t.softmax(1).amax(1) >= s.weak_confidence
        sure_s = strong_t.softmax(1).amax(1) >= s.strong_confidence

        kl = losses.logits.kl_map
        within = kl(weak_s, weak_t, s.temperature) + kl(strong_s, strong_t, s.temperature)
        across = kl(strong_s, weak_t, s.temperature) + kl(weak_s, strong_t, s.temperature)
        terms = {
            "within": s.within * (within * sure_w).mean(),
            "across": s.across * (across * sure_s).mean(),
            "strong_task": s.task_weight * strong.task_loss.mean(),
        }
        return Losses(student=terms, student_task=s.task_weight)
