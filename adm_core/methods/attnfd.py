"""AttnFD: match maps that attention has refined (Mansourian et al., arXiv:2403.05451)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.card import members
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import nn


@register
class AttentionGuided(Method):
    """``weight / B Σ_l ||a(A(F_s)) / ||·|| - A'(F_t) / ||·|| ||²``, norms over the whole batch of valid positions.

    A weighs a map's channels, then its positions, by CBAM's attention (:mod:`adm_core.attention`), which learns on the
    student; A' is the form of it without parameters; a is a 1×1 convolution with batch normalisation to the teacher's
    width. As in the authors' code (AmirMansurian/AttnFD at f090bbe): by the norm over the batch a small batch weighs
    more, and with ``accumulate`` it is each micro-batch's own. Their levels are the last stage before its ReLU and the
    outputs of pyramid and decoder of DeepLabV3+; ours are what ``taps`` names, after ReLU.
    """

    card = MethodCard(
        name="attnfd",
        title="Attention-guided Feature Distillation",
        paper="arXiv:2403.05451",
        year=2024,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """The weight is the authors' on Pascal VOC and Cityscapes, with batches of six.

        Attributes:
            taps: the levels.
            weight: of the sum over them.
        """

        taps: Annotated[tuple[str, ...], Field(min_length=1)] = ("last", "penultimate")
        weight: Annotated[float, Field(ge=0)] = searched(2.0, 0.2, 200.0)

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Feature maps at corresponding positions."""
        return Needs(taps=tuple(self.settings.taps), views="shared", capabilities=frozenset({"trainable-parts"}))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Attention is over positions."""
        from adm_core import align

        return align.why_not_maps(self.settings.taps, student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The student's attention and its projector for each level."""
        from torch import nn

        from adm_core import align
        from adm_core.attention import ConvolutionalAttention

        widths = [(student[tap][1], teacher[tap][1]) for tap in members(self.settings.taps, student)]
        refining = (nn.Sequential(ConvolutionalAttention(own), align.make_projector(own, t)) for own, t in widths)
        return {"refining": nn.ModuleList(refining)}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``refined``."""
        from adm_core import align
        from adm_core.attention import refined

        s, total = self.settings, student.prediction.new_zeros(())
        maps = zip(student.maps(s.taps), teacher.detached().maps(s.taps), strict=True)
        for module, (own, theirs) in zip(self.parts["refining"], maps, strict=True):  # type: ignore[call-overload]
            pair = align.match_size(module(own), refined(theirs))
            total = total + losses.features.direction_distance(*pair, step.mask)
        return Losses(student={"refined": s.weight * total})
