"""RSD: redundancy suppression distillation across architectures (arXiv:2507.21844, ICCV 2025)."""

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
class RedundancySuppression(Method):
    """``weight · (Σ_i (R_ii - 1)² + off_diagonal · Σ_i≠j R_ij²)``, R the correlation of h(f_s) with f_t in a batch.

    Each dimension of the student's projected vector must vary over the examples as the teacher's does, and as no other
    of it (arXiv:2507.21844; :func:`adm_core.losses.correlations.cross_correlation`). h is a linear layer to
    ``expansion`` times the student's width, batch normalisation, GELU and a linear layer to the teacher's, both without
    bias. Of a map the mean over valid positions is an example's vector; one that has none enters the normalisation of
    h as zeros. Batches of 64 and more are wanted; 1e-5 is added to variances (the authors' code: to deviations).
    """

    card = MethodCard(
        name="rsd",
        title="Redundancy Suppression Distillation",
        paper="arXiv:2507.21844",
        year=2025,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-100.

        Attributes:
            tap: an example's vector, or a map to average; denoisers, which have no such classifier, have ``mid``.
            weight: of the term.
            off_diagonal: κ, of the correlations between different dimensions.
            expansion: how much wider than the student's vector h is inside.
        """

        tap: Tap = "penultimate"
        weight: Annotated[float, Field(ge=0)] = searched(0.1, 0.01, 1.0)
        off_diagonal: Annotated[float, Field(ge=0)] = 0.01
        expansion: Annotated[int, Field(ge=1)] = 2

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """One tap of both networks on the same examples."""
        return Needs(taps=(self.settings.tap,), capabilities=frozenset({"trainable-parts"}))

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The projector h."""
        from torch import nn

        own, width = student[self.settings.tap][1], teacher[self.settings.tap][1]
        inner = own * self.settings.expansion
        first, last = nn.Linear(own, inner, bias=False), nn.Linear(inner, width, bias=False)
        return {"projector": nn.Sequential(first, nn.BatchNorm1d(inner), nn.GELU(), last)}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``correlation``."""
        s = self.settings
        own, known = losses.examples.pooled(student.features[s.tap], step.mask)
        target, _ = losses.examples.pooled(teacher.detached().features[s.tap], step.mask)
        projected = self.parts["projector"](own)
        distance = losses.correlations.cross_correlation(projected, target, s.off_diagonal, known)
        return Losses(student={"correlation": s.weight * distance})
