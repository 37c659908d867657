"""CWD: match where each channel is active (Shu et al., arXiv:2011.13256)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import Tap, searched

if TYPE_CHECKING:
    from torch import nn


@register
class ChannelWise(Method):
    """``T² / (B C) Σ KL(φ(t) || φ(s))``, φ the softmax of each channel over positions (arXiv:2011.13256, section 3).

    Once on features and once on logits, each by its own weight; a weight of 0 leaves a part out. C is the width
    after alignment: CIRKD's code divides by the student's width before it, which differs where widths do. The
    recipe of its table adds pixel KD (``kd+cwd``) and SKD's critic.
    """

    card = MethodCard(
        name="cwd",
        title="Channel-wise Knowledge Distillation",
        paper="arXiv:2011.13256",
        year=2021,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the paper's and CIRKD's on Cityscapes; SegFormers take 5 and 0.3 there.

        Attributes:
            tap: the features' place.
            feature_weight: of the part on features; a bias-free 1×1 convolution takes the student's width to the
                teacher's where they differ.
            logit_weight: of the part on logits.
            temperature: T.
        """

        tap: Tap = "penultimate"
        feature_weight: Annotated[float, Field(ge=0)] = searched(50.0, 5.0, 500.0)
        logit_weight: Annotated[float, Field(ge=0)] = searched(3.0, 0.3, 30.0)
        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0)

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Maps at corresponding positions, of the parts that have a weight."""
        s = self.settings
        return Needs(
            prediction="class_logits" if s.logit_weight else None,
            taps=(s.tap,) if s.feature_weight else (),
            views="shared",
            capabilities=frozenset({"trainable-parts"} if s.feature_weight else ()),
        )

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """What has a weight must have positions."""
        from adm_core import align

        if self.settings.logit_weight and len(student["prediction"]) != 4:
            return "the part on logits needs a prediction at every position; set logit_weight to 0 to leave it out"
        return align.why_not_maps(self.needs.taps, student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The 1×1 convolution of the part on features."""
        from adm_core import align

        tap = self.settings.tap
        if not self.settings.feature_weight:
            return {}
        return {"adapter": align.make_width_adapter(student[tap][1], teacher[tap][1], bias=False)}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``features`` and ``logits``."""
        from adm_core import align

        s, target, terms = self.settings, teacher.detached(), {}
        if s.feature_weight:
            own, theirs = align.match_size(student.features[s.tap], target.features[s.tap])
            own = self.parts["adapter"](own)
            divergence = losses.channels.channel_divergence(own, theirs, s.temperature, step.mask)
            terms["features"] = s.feature_weight * divergence
        if s.logit_weight:
            logits = (student.prediction, target.prediction)
            divergence = losses.channels.channel_divergence(*logits, s.temperature, step.mask)
            terms["logits"] = s.logit_weight * divergence
        return Losses(student=terms)
