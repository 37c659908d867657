"""DIST: match correlations within and between predictions (Huang et al., arXiv:2205.10536)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.card import AUXILIARY
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor


@register
class DIST(Method):
    """``CE + weight · T² (beta · (1 - inter) + gamma · (1 - intra))`` (arXiv:2205.10536, eqs. 9-11).

    Inter is the Pearson correlation over classes, intra the one over examples (pixels) of a class. With
    ``auxiliary_weight`` the same between the networks' auxiliary predictions is added, as the authors have it in
    segmentation.
    """

    card = MethodCard(
        name="dist",
        title="Knowledge Distillation from a Stronger Teacher",
        paper="arXiv:2205.10536",
        year=2022,
        regimes=frozenset({"offline"}),
        family="relations",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-100: T = 4, outer weight 2; on Cityscapes 1, 1 and 0.4.

        Attributes:
            beta: of the inter-class part.
            gamma: of the intra-class part.
            temperature: T.
            weight: of both.
            auxiliary_weight: by which the loss of the auxiliary predictions is weighted beside the main one's; 0
                leaves it out. Networks must have an auxiliary classifier.
        """

        beta: Annotated[float, Field(ge=0)] = 1.0
        gamma: Annotated[float, Field(ge=0)] = 1.0
        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0)
        weight: Annotated[float, Field(ge=0)] = searched(2.0, 0.2, 20.0)
        auxiliary_weight: Annotated[float, Field(ge=0)] = 0.0

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Logits, and those of the auxiliary classifier where they have a weight."""
        return Needs(prediction="class_logits", taps=(AUXILIARY,) if self.settings.auxiliary_weight else ())

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Two terms, ``inter`` and ``intra``; of the auxiliary predictions ``relations``."""
        from adm_core import align

        s, target = self.settings, teacher.detached()
        inter, intra = self._relations(student.prediction, target.prediction, step.mask)
        terms = {"inter": s.weight * inter, "intra": s.weight * intra}
        if s.auxiliary_weight:
            pair = align.match_predictions(student.features[AUXILIARY], target.features[AUXILIARY])
            terms["relations"] = s.weight * s.auxiliary_weight * sum(self._relations(*pair, step.mask))
        return Losses(student=terms)

    def _relations(self, student: Tensor, teacher: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        s = self.settings
        inter, intra = losses.logits.dist_relations(student, teacher, s.temperature, mask)
        return s.beta * inter, s.gamma * intra
