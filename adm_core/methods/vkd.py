"""VkD: an orthogonal projector to the teacher's normalised features (Miles, Elezi, Deng; arXiv:2403.06213)."""

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
class OrthogonalProjection(Method):
    """``weight · mean h(P f_s - LN(f_t))``: h smooth L1, P a projector that stays orthogonal while it is trained.

    f are vectors: of a network that predicts one class for an image the mean of a map over its positions, else what
    stands at each position (a reconstruction: the paper pools, and tells no dense form for maps). LN subtracts the
    mean over channels and divides by the deviation, without weights; the paper's other normalisation, whitening over
    the batch, which it uses for generation, is not here. P [C_t, C_s] has orthonormal columns, or rows if C_t < C_s, so
    that distances between the student's vectors stay what they are (arXiv:2403.06213, section 3).
    The authors' code makes P by torch's parametrisation, which weight decay turns to zero
    (:class:`adm_core.orthogonal.OrthogonalLinear`); this does not.
    """

    card = MethodCard(
        name="vkd",
        title="VkD: Improving Knowledge Distillation using Orthogonal Projections",
        paper="arXiv:2403.06213",
        year=2024,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on ImageNet, who add KD with weight 1: ``kd+vkd``.

        Attributes:
            tap: the map that vectors are taken of.
            weight: of the term.
        """

        tap: Tap = "last"
        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """One tap of both networks, at corresponding positions."""
        return Needs(taps=(self.settings.tap,), views="shared", capabilities=frozenset({"trainable-parts"}))

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The projector."""
        from adm_core.orthogonal import OrthogonalLinear

        tap = self.settings.tap
        return {"projector": OrthogonalLinear(student[tap][1], teacher[tap][1])}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``projected``."""
        from adm_core import align

        own, target = (view.features[self.settings.tap] for view in (student, teacher.detached()))
        if student.prediction.dim() == 2:
            own, target = (losses.examples.pooled(each)[0] for each in (own, target))
        else:
            own, target = (each.movedim(1, -1) for each in align.match_size(own, target))
        error = losses.features.normalised_distance(self.parts["projector"](own), target)
        return Losses(student={"projected": self.settings.weight * losses.spatial.masked_mean(error, step.mask)})
