"""MLKD: predictions matched example by example, over the classes and over the batch (Jin, Wang, Lin; CVPR 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor

    Pair = tuple[Tensor, Tensor]

REUSED = (2.0, 6.0)
"""Temperatures, beside the base one, at which the released code reads the weak view where it means the strong one."""


@register
class MLKD(Method):
    """``task_weight · (CE + CE_strong) + weight · Σ_T (instance + class + batch)``, on a weak and a strong view.

    With P the B×K matrix of probabilities at temperature T, ``P_i`` its rows, and each term a mean over its rows:

    - instance: ``T² KL(P_t,i || P_s,i)``, a row per example;
    - class: rows of ``(P_sᵀP_s - P_tᵀP_t)²``, summed, one per class: ``||.||² / K``;
    - batch: rows of ``(P_sP_sᵀ - P_tP_tᵀ)²``, summed, one per example: ``||.||² / B``.

    Rows are masked before the mean: of the weak view those examples (instance, batch) count whose highest teacher
    probability at T = 1 is at most the batch's median, and those classes whose teacher probability summed over the
    batch is at most the classes' median. On the strong view the batch term alone is masked, by the same examples.

    The masks are the authors', from their code, which multiplies them to means already taken: there they only scale
    each term by their share, about one half. There the strong class and batch terms are also computed and dropped, and
    the strong instance term reads the weak view at T = 2 and 6, unless that is the base temperature, the first. Form
    ``as-released`` does all that.
    """

    card = MethodCard(
        name="mlkd",
        title="Multi-level Logit Distillation",
        paper="CVPR 2023 (Jin, Wang, Lin)",
        year=2023,
        regimes=frozenset({"offline"}),
        family="logits",
        version=2,
    )
    needs = Needs(prediction="class_logits", extra_view="strong")

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of the authors' code on CIFAR-100 at 6327e73, of 480 epochs at learning rate 0.025.

        Attributes:
            temperatures: every T; the base temperature 4 and the authors' four others, which may have it again.
            weight: of the three terms, the same for all.
            task_weight: of the cross-entropy on each of the views.
            form: ``paper`` masks rows; ``as-released`` reproduces what the released code computes.
            standardise: logits first in the instance term (arXiv:2403.01427), as its authors combine the two.
        """

        temperatures: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (
            4.0,
            2.0,
            3.0,
            5.0,
            6.0,
        )
        weight: Annotated[float, Field(ge=0)] = searched(0.9, 0.1, 9.0)
        task_weight: Annotated[float, Field(ge=0)] = 0.1
        form: Literal["paper", "as-released"] = "paper"
        standardise: bool = False

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Batch and class relations are between examples; those between all pixels of a batch would not fit memory."""
        if len(student["prediction"]) != 2:
            return "MLKD relates the examples of a batch: it needs one prediction per example"
        return None

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``instance``, ``class``, ``batch``, and ``strong_task``, the cross-entropy on the strong view."""
        s = self.settings
        weak = (student.prediction, teacher.detached().prediction)
        strong = (step.extra["student"].prediction, step.extra["teacher"].detached().prediction)
        sure = weak[1].softmax(1)
        unsure, rare = (losses.difficulty.lower_half(each).to(sure) for each in (sure.amax(1), sure.sum(0)))
        parts = self._released if s.form == "as-released" else self._masked
        # The released code takes the base temperature from its configuration and has written out the others.
        other = [strong, *(weak if t in REUSED and s.form == "as-released" else strong for t in s.temperatures[1:])]
        scales = [parts(weak, view, unsure, rare, t) for view, t in zip(other, s.temperatures, strict=True)]
        terms = {name: s.weight * sum(part[name] for part in scales) for name in ("instance", "class", "batch")}
        terms["strong_task"] = s.task_weight * step.extra["student"].task_loss.mean()
        return Losses(student=terms, student_task=s.task_weight)

    def _masked(self, weak: Pair, strong: Pair, unsure: Tensor, rare: Tensor, t: float) -> dict[str, Tensor]:
        a, b = self._rows(*weak, t), self._rows(*strong, t)
        return {
            "instance": (a["instance"] * unsure).mean() + b["instance"].mean(),
            "class": (a["class"] * rare).mean() + b["class"].mean(),
            "batch": (a["batch"] * unsure).mean() + (b["batch"] * unsure).mean(),
        }

    def _released(self, weak: Pair, strong: Pair, unsure: Tensor, rare: Tensor, t: float) -> dict[str, Tensor]:
        a, b = self._rows(*weak, t), self._rows(*strong, t)
        return {
            "instance": a["instance"].mean() * unsure.mean() + b["instance"].mean(),
            "class": a["class"].mean() * rare.mean(),
            "batch": a["batch"].mean() * unsure.mean(),
        }

    def _rows(self, student: Tensor, teacher: Tensor, t: float) -> dict[str, Tensor]:
        """The terms at one temperature before masks and means: ``instance`` [B], ``class`` [K], ``batch`` [B]."""
        p, q = (student / t).softmax(1), (teacher / t).softmax(1)
        if self.settings.standardise:
            student, teacher = losses.logits.standardised(student), losses.logits.standardised(teacher)
        rows = losses.relations.gram_distance
        return {"instance": losses.logits.kl_map(student, teacher, t), "class": rows(p.T, q.T), "batch": rows(p, q)}
