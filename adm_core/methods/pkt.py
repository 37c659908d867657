"""PKT: probabilistic knowledge transfer (Passalis & Tefas, arXiv:1803.10837, ECCV 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import Tap, searched


@register
class ProbabilisticTransfer(Method):
    """``weight · 1/B² Σ_ij p_ij log(p_ij / q_ij)``: the student's neighbours must be as probable as the teacher's.

    A row of p (teacher) and of q (student) is ``(1 + cos) / 2`` of an example's vector to all of the batch, scaled to
    sum one (arXiv:1803.10837, section 3, with cosine kernels). As in the authors' code an example counts among its own
    neighbours and the sum is divided by B², which the weight makes up for. Of a map the mean over valid positions is
    an example's vector.
    """

    card = MethodCard(
        name="pkt",
        title="Probabilistic Knowledge Transfer",
        paper="arXiv:1803.10837",
        year=2018,
        regimes=frozenset({"offline"}),
        family="relations",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of RepDistiller and mdistiller on CIFAR-100.

        Attributes:
            tap: an example's vector, or a map to average; denoisers, which have no such classifier, have ``mid``.
            weight: of the divergence.
        """

        tap: Tap = "penultimate"
        weight: Annotated[float, Field(ge=0)] = searched(30_000.0, 300.0, 300_000.0)

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """One tap of both networks on the same examples."""
        return Needs(taps=(self.settings.tap,))

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``neighbours``."""
        own, target = (view.features[self.settings.tap] for view in (student, teacher.detached()))
        divergence = losses.examples.neighbour_divergence(own, target, step.mask)
        return Losses(student={"neighbours": self.settings.weight * divergence})
