"""RKD: relational knowledge distillation (Park, Kim, Lu, Cho, arXiv:1904.05068, CVPR 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import Tap, searched


@register
class RelationalKD(Method):
    """``distance_weight · mean_ij h(ψ_D) + angle_weight · mean_ijk h(ψ_A)``, h smooth L1 between the networks' ψ.

    ψ_D is the distance of two examples' vectors as a share of the network's mean distance in the batch, ψ_A the cosine
    of the angle that two make at a third (arXiv:1904.05068, sections 3.2.1 and 3.2.2). Means are over all B² pairs and
    B³ triplets of a batch, as in the authors' code. Of a map the mean over valid positions is an example's vector.
    """

    card = MethodCard(
        name="rkd",
        title="Relational Knowledge Distillation",
        paper="arXiv:1904.05068",
        year=2019,
        regimes=frozenset({"offline"}),
        family="relations",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of RepDistiller and mdistiller on CIFAR-100.

        Attributes:
            tap: an example's vector, or a map to average; denoisers, which have no such classifier, have ``mid``.
            distance_weight: of the distances; 0 leaves them out.
            angle_weight: of the angles; 0 leaves them out. They take memory for B³ numbers.
        """

        tap: Tap = "penultimate"
        distance_weight: Annotated[float, Field(ge=0)] = searched(25.0, 2.5, 250.0)
        angle_weight: Annotated[float, Field(ge=0)] = searched(50.0, 5.0, 500.0)

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """One tap of both networks on the same examples."""
        return Needs(taps=(self.settings.tap,))

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``distance`` and ``angle``."""
        s, terms = self.settings, {}
        own, target = (view.features[s.tap] for view in (student, teacher.detached()))
        if s.distance_weight:
            terms["distance"] = s.distance_weight * losses.examples.distance_relations(own, target, step.mask)
        if s.angle_weight:
            terms["angle"] = s.angle_weight * losses.examples.angle_relations(own, target, step.mask)
        return Losses(student=terms)
