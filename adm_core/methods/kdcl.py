"""KDCL: both networks learn from an ensemble of their predictions (Guo et al., CVPR 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class KDCL(Method):
    """Each network: ``(1 - alpha) · CE + alpha · T² KL(σ(z_ens / T) || σ(z_own / T))``, the ensemble detached.

    The ensemble is one of the paper's naive, linear or min-logit forms or the plain mean (re-implementations); on
    dense predictions naive chooses per pixel, and linear has one coefficient for all valid pixels of the batch.
    Each network sees its own augmentation of an image, unless a composed method needs corresponding positions.
    """

    card = MethodCard(
        name="kdcl",
        title="Online Knowledge Distillation via Collaborative Learning",
        paper="CVPR 2020, Guo et al.",
        year=2020,
        regimes=frozenset({"online"}),
        family="logits",
    )

    @dataclass(frozen=True)
    class Settings:
        """Mean logits, T = 4 and alpha = 0.5 are those of the public CIFAR-100 re-implementation."""

        ensemble: Literal["naive", "linear", "min-logit", "mean"] = "mean"
        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0)
        alpha: Annotated[float, Field(ge=0, le=1)] = searched(0.5, 0.0, 1.0, scale="linear")
        views: Literal["own", "shared"] = "own"

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Class logits, of views of their own by default."""
        views = self.settings.views
        return Needs(
            prediction="class_logits",
            views=views,
            capabilities=frozenset({"own-views"}) if views == "own" else frozenset(),
        )

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term each, ``ensemble``."""
        s = self.settings
        target = losses.logits.ensemble_target(
            student.prediction, teacher.prediction, step.target, s.ensemble, step.mask
        )
        kl = losses.logits.kl_divergence
        return Losses(
            student={"ensemble": s.alpha * kl(student.prediction, target, s.temperature, step.mask)},
            teacher={"ensemble": s.alpha * kl(teacher.prediction, target, s.temperature, step.mask)},
            student_task=1 - s.alpha,
            teacher_task=1 - s.alpha,
        )
