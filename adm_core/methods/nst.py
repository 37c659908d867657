"""NST: neuron selectivity transfer (Huang & Wang, arXiv:1707.01219)."""

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
class NeuronSelectivity(Method):
    """``weight · Σ_l MMD²(F_s^l, F_t^l)``: the student's neurons must select the positions that the teacher's do.

    The maximum mean discrepancy between the channels of both maps, vectors over positions of length one, under the
    kernel ``(a · b)²`` (arXiv:1707.01219, section 4; :func:`adm_core.losses.channels.selectivity_distance`). Widths
    may differ. The larger map is average-pooled to the smaller one's size. Takes memory for B C² numbers per stage.
    """

    card = MethodCard(
        name="nst",
        title="Neuron Selectivity Transfer",
        paper="arXiv:1707.01219",
        year=2017,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of RepDistiller and mdistiller on CIFAR-100.

        Attributes:
            taps: where neurons are compared; theirs are all stages, as each network has them.
            weight: of the sum over the taps.
        """

        taps: tuple[str, ...] = (ALL_STAGES,)
        weight: Annotated[float, Field(ge=0)] = searched(50.0, 5.0, 500.0)

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Feature maps of the stages, at corresponding positions."""
        return Needs(taps=tuple(self.settings.taps), views="shared")

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Every tap must be a spatial map."""
        from adm_core import align

        return align.why_not_maps(self.settings.taps, student, teacher)

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``selectivity``, the sum over stages."""
        from adm_core import align

        target = teacher.detached()
        pairs = zip(student.maps(self.settings.taps), target.maps(self.settings.taps), strict=True)
        total = sum(losses.channels.selectivity_distance(*align.match_size(s, t), step.mask) for s, t in pairs)
        return Losses(student={"selectivity": self.settings.weight * total})
