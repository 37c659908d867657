"""VID: variational information distillation (Ahn et al., arXiv:1904.05835, CVPR 2019)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.card import ALL_STAGES, members
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import nn

SMALLEST = 1e-5
"""What is added to a variance, so that it stays positive."""


@register
class VariationalInformation(Method):
    """``weight · Σ_l mean ½ ((F_t - μ(F_s))² / σ² + log σ²)``: the student's maps must tell the teacher's.

    A lower bound of the information between both (arXiv:1904.05835, section 2). μ is three 1×1 convolutions with
    ReLU between them, σ² [C_t] one trained variance per channel, ``softplus(α) + 1e-5``, as in RepDistiller; in
    mdistiller's code the optimiser does not get the α, so that variances stay as they began. The larger map is
    average-pooled to the smaller one's size.
    """

    card = MethodCard(
        name="vid",
        title="Variational Information Distillation",
        paper="arXiv:1904.05835",
        year=2019,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of RepDistiller and mdistiller on CIFAR-100.

        Attributes:
            taps: where; theirs are all stages, as each network has them.
            weight: of the sum over the taps.
            variance: what each σ² begins with.
        """

        taps: tuple[str, ...] = (ALL_STAGES,)
        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.01, 10.0)
        variance: Annotated[float, Field(gt=1e-4)] = 5.0

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Feature maps of the stages, at corresponding positions."""
        return Needs(taps=tuple(self.settings.taps), views="shared", capabilities=frozenset({"trainable-parts"}))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Every tap must be a spatial map."""
        from adm_core import align

        return align.why_not_maps(self.settings.taps, student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """A regressor for each stage, which also holds its α."""
        import torch
        from torch import nn

        regressors = nn.ModuleList()
        for tap in members(self.settings.taps, student):
            own, width = student[tap][1], teacher[tap][1]
            first, second, third = (nn.Conv2d(c, width, 1, bias=False) for c in (own, width, width))
            regressors.append(nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third))
            alpha = torch.full((width,), math.log(math.expm1(self.settings.variance - SMALLEST)))
            regressors[-1].register_parameter("alpha", nn.Parameter(alpha))
        return {"regressors": regressors}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``information``, the sum over stages."""
        import torch.nn.functional as F

        from adm_core import align

        s, regressors, total = self.settings, self.parts["regressors"], student.prediction.new_zeros(())
        pairs = zip(student.maps(s.taps), teacher.detached().maps(s.taps), regressors, strict=True)  # type: ignore[call-overload]
        for own, fixed, regressor in pairs:
            ours, theirs = align.match_size(own, fixed)
            variance = F.softplus(regressor.alpha) + SMALLEST
            total = total + losses.features.gaussian_nll(regressor(ours), variance, theirs, step.mask)
        return Losses(student={"information": s.weight * total})
