"""SP: similarity-preserving knowledge distillation (Tung & Mori, arXiv:1907.09682, ICCV 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import Tap, searched


@register
class SimilarityPreserving(Method):
    """``weight · 1/B² ||G_s - G_t||²``: examples that excite the teacher alike must excite the student alike.

    G [B, B] is ``Q Qᵀ`` with rows scaled to length one, Q [B, C·H·W] the flattened map of each example
    (arXiv:1907.09682, section 3). Maps may differ in width and size. Void positions are set to zero before.
    """

    card = MethodCard(
        name="sp",
        title="Similarity-Preserving Knowledge Distillation",
        paper="arXiv:1907.09682",
        year=2019,
        regimes=frozenset({"offline"}),
        family="relations",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of RepDistiller and mdistiller on CIFAR-100.

        Attributes:
            tap: what excites: a map or a vector; theirs is the last map.
            weight: of the term.
        """

        tap: Tap = "last"
        weight: Annotated[float, Field(ge=0)] = searched(3000.0, 30.0, 30_000.0)

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """One tap of both networks on the same examples."""
        return Needs(taps=(self.settings.tap,))

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``similarity``."""
        own, target = (view.features[self.settings.tap] for view in (student, teacher.detached()))
        distance = losses.examples.activation_similarity(own, target, step.mask)
        return Losses(student={"similarity": self.settings.weight * distance})
