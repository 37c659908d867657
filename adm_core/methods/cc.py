"""CC: correlation congruence (Peng et al., arXiv:1904.01802, ICCV 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import Tap, searched


@register
class CorrelationCongruence(Method):
    """``weight · 1/B² ||K_s - K_t||²``: a Gaussian kernel between the examples' directions must be the teacher's.

    ``K = exp(-2γ) Σ_p (2γ)^p / p! cos^p``, the Taylor series of ``exp(-γ |x - y|²)`` for vectors of length one
    (arXiv:1904.01802, section 3). The paper adds it to KD: ``kd+cc``. What RepDistiller tabulates under this name is
    another loss, on products of neighbouring examples' trained embeddings; its figures are not those of this one. Of a
    map the mean over valid positions is an example's vector.
    """

    card = MethodCard(
        name="cc",
        title="Correlation Congruence",
        paper="arXiv:1904.01802",
        year=2019,
        regimes=frozenset({"offline"}),
        family="relations",
    )

    @dataclass(frozen=True)
    class Settings:
        """γ and the order are the authors'; the weight is that of Knowledge-Distillation-Zoo on CIFAR-10.

        Attributes:
            tap: an example's vector, or a map to average; denoisers, which have no such classifier, have ``mid``.
            weight: of the term.
            gamma: γ.
            order: the highest power p.
        """

        tap: Tap = "penultimate"
        weight: Annotated[float, Field(ge=0)] = searched(100.0, 10.0, 1000.0)
        gamma: Annotated[float, Field(gt=0)] = 0.4
        order: Annotated[int, Field(ge=1)] = 2

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """One tap of both networks on the same examples."""
        return Needs(taps=(self.settings.tap,))

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``kernel``."""
        s = self.settings
        own, target = (view.features[s.tap] for view in (student, teacher.detached()))
        distance = losses.examples.kernel_congruence(own, target, s.gamma, s.order, step.mask)
        return Losses(student={"kernel": s.weight * distance})
