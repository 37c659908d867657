"""IFVD: match how pixels vary around their class's prototype (Wang et al., ECCV 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import Tap, searched


@register
class IntraClassVariation(Method):
    """``weight · mean_p (M_s(p) - M_t(p))²``, M(p) the cosine of a pixel's feature to its class's mean in the image.

    Wang et al., ECCV 2020, section 3. The mean is over labelled pixels; the authors' code also counts the others, at
    which its difference is zero. A cell of the map has the label of the pixel in its middle; theirs takes the first of
    its pixels. Their recipe adds pixel KD and SKD's critic: ``kd+skd+ifvd``, skd's ``pair_weight`` 0.
    """

    card = MethodCard(
        name="ifvd",
        title="Intra-class Feature Variation Distillation",
        paper="ECCV 2020, Wang et al.",
        year=2020,
        regimes=frozenset({"offline"}),
        family="relations",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are CIRKD's on Cityscapes; the authors' own code has weight 200 beside KD weight 10."""

        tap: Tap = "penultimate"
        weight: Annotated[float, Field(ge=0)] = searched(20.0, 2.0, 200.0)

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Feature maps at corresponding positions; the number of classes is read off the logits."""
        return Needs(prediction="class_logits", taps=(self.settings.tap,), views="shared")

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Labels must be those of pixels, the tap a map."""
        from adm_core import align

        if len(student["prediction"]) != 4:
            return "prototypes are means over the pixels of a class: it needs pixel labels, not image labels"
        return align.why_not_maps(self.needs.taps, student, teacher)

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``variation``."""
        from adm_core import align

        tap, classes = self.settings.tap, student.prediction.shape[1]
        maps = align.match_size(student.features[tap], teacher.detached().features[tap])
        variation = losses.prototypes.intra_class_variation(*maps, step.target, classes, step.mask)
        return Losses(student={"variation": self.settings.weight * variation})
