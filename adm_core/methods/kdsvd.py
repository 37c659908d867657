"""KDSVD: self-supervised distillation by singular value decomposition (Lee et al., arXiv:1807.06819, ECCV 2018)."""

from __future__ import annotations

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


@register
class SingularValueDecomposition(Method):
    """``weight · Σ_l ||K_s^l - K_t^l||²``, K^l a Gaussian kernel between the main directions of stages l - 1 and l.

    A stage's main direction [C] is the first right singular vector of its [HW, C] matrix, for each example; the
    student's is the one of its first four that is nearest to the teacher's
    (:func:`adm_core.losses.directions.singular_relations`). As in RepDistiller; mdistiller decomposes [CH, W] matrices,
    which is another method. Directions of nearly equal singular values do not turn towards each other, where the exact
    gradient has no bound. The sign of a teacher's direction is arbitrary in the authors' code, and fixed here. Widths
    are equal there; elsewhere a 1×1 convolution brings the student's maps to the teacher's, which is ours.
    """

    card = MethodCard(
        name="kdsvd",
        title="Knowledge Distillation using Singular Value Decomposition",
        paper="arXiv:1807.06819",
        year=2018,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of RepDistiller and mdistiller on CIFAR-100.

        Attributes:
            taps: the stages, at least two; theirs are all, as each network has them.
            weight: of the sum over consecutive stages.
        """

        taps: tuple[str, ...] = (ALL_STAGES,)
        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.01, 100.0)

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Feature maps of the stages; the decomposition waits for the device."""
        beyond = frozenset({"trainable-parts", "host-synchronisation"})
        return Needs(taps=tuple(self.settings.taps), views="shared", capabilities=beyond)

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """There must be two maps."""
        from adm_core import align

        if len(members(self.settings.taps, student)) < 2:
            return "KDSVD compares how one map's directions go with the next one's: it needs two taps"
        return align.why_not_maps(self.settings.taps, student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """A 1×1 convolution for each stage whose widths differ."""
        from adm_core import align

        return {"adapters": align.make_width_adapters(self.settings.taps, student, teacher)}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``directions``."""
        s, adapters = self.settings, self.parts["adapters"]
        own = [adapter(f) for adapter, f in zip(adapters, student.maps(s.taps), strict=True)]  # type: ignore[call-overload]
        distance = losses.directions.singular_relations(own, teacher.detached().maps(s.taps), step.mask)
        return Losses(student={"directions": s.weight * distance})
