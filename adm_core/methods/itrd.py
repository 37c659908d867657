"""ITRD: information theoretic representation distillation (Miles et al., arXiv:2112.00459, BMVC 2022)."""

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
class InformationTheoretic(Method):
    """``correlation_weight · log2 Σ_i |1 - c_i|^(2 α) + information_weight · (Σ A² - Σ C²)`` of embedded vectors.

    c_i is the correlation over the batch of dimension i of the student's vector, through a linear layer, with that of
    the teacher's; A and C [B, B] are the cosines of the student's examples and their product with the teacher's, each
    of trace one (arXiv:2112.00459; :mod:`adm_core.losses.correlations`). The second term reads
    the embedded vector where widths differ, and the student's own where they agree, as in the authors' code. Of a map
    the mean over valid positions is an example's vector. Terms may be negative.
    """

    card = MethodCard(
        name="itrd",
        title="Information Theoretic Representation Distillation",
        paper="arXiv:2112.00459",
        year=2022,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' example on CIFAR-100, WRN-40-2 and WRN-16-2.

        What their script falls back to is alpha 1.5 and information_weight 0.05, for which pairs is not said there.

        Attributes:
            tap: an example's vector, or a map to average; denoisers, which have no such classifier, have ``mid``.
            correlation_weight: of the first term; 0 leaves it out.
            information_weight: of the second term; 0 leaves it out.
            alpha: α, order of Rényi's entropy in the first term.
        """

        tap: Tap = "penultimate"
        correlation_weight: Annotated[float, Field(ge=0)] = searched(2.0, 0.2, 20.0)
        information_weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        alpha: Annotated[float, Field(gt=0.5)] = 1.01

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """One tap of both networks on the same examples."""
        return Needs(taps=(self.settings.tap,), capabilities=frozenset({"trainable-parts"}))

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The linear layer to the teacher's width."""
        from torch import nn

        return {"embedding": nn.Linear(student[self.settings.tap][1], teacher[self.settings.tap][1])}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``correlation`` and ``information``."""
        s, terms = self.settings, {}
        own, known = losses.examples.pooled(student.features[s.tap], step.mask)
        target, _ = losses.examples.pooled(teacher.detached().features[s.tap], step.mask)
        embedded = self.parts["embedding"](own)
        if s.correlation_weight:
            distance = losses.correlations.log_correlation(embedded, target, s.alpha, known)
            terms["correlation"] = s.correlation_weight * distance
        if s.information_weight:
            vectors = own if own.shape == target.shape else embedded
            distance = losses.correlations.matrix_information(vectors, target, known)
            terms["information"] = s.information_weight * distance
        return Losses(student=terms)
