"""BK-SDM: output and block features of a denoiser (Kim, Song, Castells, Choi, arXiv:2305.15798, ECCV 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field

from adm_core.card import members
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import nn


@register
class BKSDM(Method):
    """``output · mean (ε_s - ε_t)² + features · Σ_blocks mean (F_s - F_t)²`` (arXiv:2305.15798, eqs. 2 and 3).

    The paper's students have the teacher's widths and need no projector; where widths differ, a trained 1×1
    convolution takes the student's to the teacher's.
    """

    card = MethodCard(
        name="bksdm",
        title="BK-SDM",
        paper="arXiv:2305.15798",
        year=2024,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Weights are the authors'; the blocks are the down and up blocks of a network of two levels.

        Attributes:
            taps: the blocks.
            output: weight of the predictions' error.
            features: weight of the features' error.
        """

        taps: tuple[str, ...] = ("down1", "down2", "up2", "up1")
        output: Annotated[float, Field(ge=0)] = 1.0
        features: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Predictions and block outputs at corresponding positions."""
        return Needs(
            prediction="denoiser",
            taps=tuple(self.settings.taps),
            views="shared",
            capabilities=frozenset({"trainable-parts"}),
        )

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Every tap must be a map."""
        from adm_core import align

        return align.why_not_maps(self.needs.taps, student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """A 1×1 convolution per block whose widths differ."""
        from torch import nn

        from adm_core import align

        taps = members(self.settings.taps, student)
        return {
            "adapters": nn.ModuleList(
                align.make_width_adapter(student[tap][1], teacher[tap][1], bias=True) for tap in taps
            )
        }

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``output`` and ``features``."""
        from adm_core import align

        s, target = self.settings, teacher.detached()
        errors = []
        adapters = cast("nn.ModuleList", self.parts["adapters"])
        for ours, fixed, adapter in zip(student.maps(s.taps), target.maps(s.taps), adapters, strict=True):
            own, theirs = align.match_size(ours, fixed)
            errors.append((adapter(own) - theirs).pow(2).mean())
        output = (student.prediction - target.prediction).pow(2).mean()
        return Losses(student={"output": s.output * output, "features": s.features * sum(errors[1:], errors[0])})
