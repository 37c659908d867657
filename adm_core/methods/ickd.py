"""ICKD: inter-channel correlation (Liu et al., arXiv:2202.03680, ICCV 2021)."""

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
class InterChannelCorrelation(Method):
    """``weight · 1/C Σ_ij (G_s - G_t)²_ij``: channels must be as alike as the teacher's are, mean over examples.

    G [C, C] is ``F Fᵀ`` of an image's map with rows scaled to length one (arXiv:2202.03680, section 3;
    :func:`adm_core.losses.channels.channel_correlation`). A 1×1 convolution with batch normalisation takes the
    student's map to the teacher's width, also where they agree; sizes may differ. On segmentation the authors compare
    patches of a map, this whole images.
    """

    card = MethodCard(
        name="ickd",
        title="Inter-Channel Correlation Knowledge Distillation",
        paper="arXiv:2202.03680",
        year=2021,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-100, for ResNet-32x4 and ResNet-8x4.

        Attributes:
            tap: the map; theirs is the last.
            weight: of the term.
        """

        tap: Tap = "last"
        weight: Annotated[float, Field(ge=0)] = searched(2.5, 0.25, 25.0)

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """One map of both networks on the same examples."""
        return Needs(taps=(self.settings.tap,), capabilities=frozenset({"trainable-parts"}))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """The tap must be a map."""
        from adm_core import align

        return align.why_not_maps(self.needs.taps, student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The projector to the teacher's width."""
        from adm_core import align

        return {"projector": align.make_projector(student[self.settings.tap][1], teacher[self.settings.tap][1])}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``correlation``."""
        projected = self.parts["projector"](student.features[self.settings.tap])
        target = teacher.detached().features[self.settings.tap]
        distance = losses.channels.channel_correlation(projected, target, step.mask)
        return Losses(student={"correlation": self.settings.weight * distance})
