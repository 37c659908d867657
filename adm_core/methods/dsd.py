"""DSD: match attention's changes between levels and the likeness of classes (Feng et al., arXiv:2107.08591)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.card import AUXILIARY
from adm_core.method import Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class DoubleSimilarity(Method):
    """Pixel-wise: MSE of residual attention maps. Category-wise: MSE of class-by-class Gram matrices of the logits.

    Both as CIRKD's code has them: the residuals of every two levels of ``taps``
    (:func:`adm_core.losses.features.residual_attention`), and the logits pooled by 2x2 with a softmax over positions
    at temperature 4 (:func:`adm_core.losses.channels.category_similarity`). A Gram entry is of the order of one over
    the number of positions, so at the published weight the category-wise term is all but nothing on large maps.
    """

    card = MethodCard(
        name="dsd",
        title="Double Similarity Distillation",
        paper="arXiv:2107.08591",
        year=2021,
        regimes=frozenset({"offline"}),
        family="relations",
        version=2,
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are CIRKD's on Cityscapes.

        Attributes:
            taps: the levels, in order, at least two. Theirs begin with the logits of the auxiliary classifier; for
                SegFormer, which has none, they are the last two.
            pixel_weight: of the pixel-wise term; 0 leaves it out.
            category_weight: of the category-wise term; 0 leaves it out.
            temperature: of the softmax over positions.
        """

        taps: Annotated[tuple[str, ...], Field(min_length=2)] = (AUXILIARY, "penultimate", "logits")
        pixel_weight: Annotated[float, Field(ge=0)] = searched(1000.0, 100.0, 10_000.0)
        category_weight: Annotated[float, Field(ge=0)] = searched(10.0, 1.0, 100.0)
        temperature: Annotated[float, Field(gt=0)] = 4.0

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Maps of the levels and dense logits at corresponding positions, of the parts that have a weight."""
        s = self.settings
        return Needs(
            prediction="class_logits" if s.category_weight else None,
            taps=tuple(s.taps) if s.pixel_weight else (),
            views="shared",
        )

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """What has a weight must have positions."""
        from adm_core import align

        if self.settings.category_weight and len(student["prediction"]) != 4:
            return "classes are compared over positions of the logits; set category_weight to 0 to leave that out"
        return align.why_not_maps(self.needs.taps, student, teacher)

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``pixel`` and ``category``."""
        s, target, terms = self.settings, teacher.detached(), {}
        if s.pixel_weight:
            own, theirs = (list(view.maps(s.taps)) for view in (student, target))
            terms["pixel"] = s.pixel_weight * losses.features.residual_attention(own, theirs, step.mask)
        if s.category_weight:
            logits = (student.prediction, target.prediction)
            similarity = losses.channels.category_similarity(*logits, s.temperature, step.mask)
            terms["category"] = s.category_weight * similarity
        return Losses(student=terms)
