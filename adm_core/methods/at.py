"""AT: match spatial attention maps of several stages (Zagoruyko & Komodakis, arXiv:1612.03928)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.card import ALL_STAGES
from adm_core.method import Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class AttentionTransfer(Method):
    """``weight · Σ_stages mean (n(A_s) - n(A_t))²``, A the channel mean of squares, n L2-normalisation."""

    card = MethodCard(
        name="at",
        title="Attention Transfer",
        paper="arXiv:1612.03928",
        year=2017,
        regimes=frozenset({"offline"}),
        family="features",
        version=2,
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of RepDistiller and mdistiller on CIFAR-100.

        Attributes:
            taps: where attention is compared; theirs are all stages, as each network has them.
            weight: of the sum over the taps.
        """

        taps: tuple[str, ...] = (ALL_STAGES,)
        weight: Annotated[float, Field(ge=0)] = searched(1000.0, 1.0, 10_000.0)

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Feature maps of the stages, at corresponding positions."""
        return Needs(taps=tuple(self.settings.taps), views="shared")

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Every tap must be a spatial map."""
        from adm_core import align

        return align.why_not_maps(self.settings.taps, student, teacher)

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``attention``, the sum over stages."""
        target = teacher.detached()
        pairs = zip(student.maps(self.settings.taps), target.maps(self.settings.taps), strict=True)
        total = sum(losses.features.attention_transfer(s, t, step.mask) for s, t in pairs)
        return Losses(student={"attention": self.settings.weight * total})
