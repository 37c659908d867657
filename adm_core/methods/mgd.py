"""MGD: restore the teacher's whole features from part of the student's (Yang et al., arXiv:2205.01529)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import Tap, searched

if TYPE_CHECKING:
    from torch import nn


@register
class MaskedGenerative(Method):
    """``weight / B Σ (G(m · a(F_s)) - F_t)²``: a random part of the student's features must give all of the teacher's.

    arXiv:2205.01529, section 3: a takes the student's width to the teacher's by a 1×1 convolution (where they differ),
    m hides each position (or channel) with probability ``ratio``, G is a 3×3 convolution, ReLU and another. A sum,
    not a mean: the published weights fit published map sizes. Void positions are left out of the sum. The authors'
    segmentation recipe adds CWD on logits: ``mgd+cwd``, cwd's ``feature_weight`` 0.
    """

    card = MethodCard(
        name="mgd",
        title="Masked Generative Distillation",
        paper="arXiv:2205.01529",
        year=2022,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' for segmentation; for classification weight 7e-5, ratio 0.15, over channels.

        Attributes:
            tap: the features' place; theirs is the backbone's last stage.
            weight: of the term.
            ratio: share that is hidden.
            over: whether whole ``positions`` are hidden, or whole ``channels``.
        """

        tap: Tap = "last"
        weight: Annotated[float, Field(ge=0)] = searched(2e-5, 2e-06, 0.002)
        ratio: Annotated[float, Field(ge=0, lt=1)] = 0.75
        over: Literal["positions", "channels"] = "positions"

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Feature maps at corresponding positions."""
        return Needs(taps=(self.settings.tap,), views="shared", capabilities=frozenset({"trainable-parts"}))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """The tap must be a map."""
        from adm_core import align

        return align.why_not_maps(self.needs.taps, student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The 1×1 convolution and the generator."""
        from adm_core import align

        own, width = student[self.settings.tap][1], teacher[self.settings.tap][1]
        generator = align.make_generator(width)  # before the adapter, as initial weights are drawn in this order
        return {"adapter": align.make_width_adapter(own, width, bias=True), "generator": generator}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``restored``."""
        from adm_core import align

        s = self.settings
        own, target = align.match_size(student.features[s.tap], teacher.detached().features[s.tap])
        aligned = self.parts["adapter"](own)
        keep = losses.features.random_keep(aligned, s.ratio, s.over, step.generator)
        restored = self.parts["generator"](aligned * keep)
        return Losses(student={"restored": s.weight * losses.features.squared_distance(restored, target, step.mask)})
