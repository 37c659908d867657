"""WKD-F: the Wasserstein distance of features as normal distributions (Lv et al., arXiv:2412.08139, NeurIPS 2024)."""

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
class WKDF(Method):
    """``weight · mean (ratio · |μ_s - μ_t|² + |σ_s - σ_t|²)``, with mean and deviation of each channel over positions.

    They are taken in each cell of a grid, of the student's map through a projector
    (arXiv:2412.08139; :func:`adm_core.losses.transport.gaussian_distance`). The projector is a 1×1, a 3×3
    and a 1×1 convolution, batch normalisation and ReLU; sizes may differ. The weight falls to zero along a cosine from
    ``decay_from`` on, as that of WKD-L. Doubt: variances here are divided by the number of positions, as we recall the
    paper; the authors' code divides by one less, which counts on small cells.
    """

    card = MethodCard(
        name="wkd-f",
        title="Wasserstein Distance Distillation of Features",
        paper="arXiv:2412.08139",
        year=2024,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-100, ResNet-32x4 > ResNet-8x4 (ImageNet: weight 0.02, ratio 2).

        Attributes:
            tap: the map; theirs is the last.
            weight: of the distance.
            ratio: of the means beside the deviations.
            grid: cells a side.
            width: of the projector inside.
            decay_from: share of training after which the weight falls; epoch 150 of 240.
        """

        tap: Tap = "last"
        weight: Annotated[float, Field(ge=0)] = searched(0.08, 0.008, 0.8)
        ratio: Annotated[float, Field(ge=0)] = 4.0
        grid: Annotated[int, Field(ge=1)] = 1
        width: Annotated[int, Field(ge=1)] = 256
        decay_from: Annotated[float, Field(ge=0, le=1)] = 0.625

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """One map of both networks, whose cells correspond."""
        return Needs(taps=(self.settings.tap,), views="shared", capabilities=frozenset({"trainable-parts"}))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """The tap must be a map with a position for each cell."""
        from adm_core import align

        s, t = student[self.settings.tap], teacher[self.settings.tap]
        if len(s) == len(t) == 4 and min(*s[2:], *t[2:]) < self.settings.grid:
            return f"maps of {s[2]}x{s[3]} and {t[2]}x{t[3]} have no {self.settings.grid} cells a side (setting 'grid')"
        return align.why_not_maps(self.needs.taps, student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The projector."""
        from torch import nn

        own, inner, width = student[self.settings.tap][1], self.settings.width, teacher[self.settings.tap][1]
        layers = nn.Conv2d(own, inner, 1), nn.Conv2d(inner, inner, 3, padding=1), nn.Conv2d(inner, width, 1)
        return {"projector": nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU())}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``distance``."""
        s = self.settings
        projected = self.parts["projector"](student.features[s.tap])
        target = teacher.detached().features[s.tap]
        distance = losses.transport.gaussian_distance(projected, target, s.ratio, s.grid, step.mask)
        return Losses(student={"distance": s.weight * step.decay(s.decay_from) * distance})
