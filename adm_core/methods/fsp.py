"""FSP: a gift from knowledge distillation, the flow between the stages of a network (Yim et al., CVPR 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.card import ALL_STAGES, members
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Phase, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import nn

FLOW = "flow"
"""The phase in which the method acts."""


@register
class FSP(Method):
    """First the student's stages learn how the teacher's lead from one to the next, then labels alone are learnt.

    In the phase ``flow`` the body trains by ``weight · Σ_l mean (G_s^l - G_t^l)²``, and the classifier rests;
    ``G^l = 1/HW Σ_p F^l_p F^(l+1)_pᵀ`` (CVPR 2017, section 3), so that sizes may differ. The rest of training has the
    recipe's task loss alone; compose ``kd+fsp`` to add KD there. The recipe's schedule runs once over both; the authors
    start it anew. Theirs and RepDistiller's networks have equal widths; elsewhere a 1×1 convolution brings the
    student's maps to the teacher's, which is ours. RepDistiller's first map is the stem's, which is none of
    ``all-stages``.
    """

    card = MethodCard(
        name="fsp",
        title="Flow of Solution Procedure",
        paper="CVPR 2017 (Yim et al.)",
        year=2017,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are RepDistiller's on CIFAR-100, where 30 epochs go before 240.

        Attributes:
            taps: the stages, at least two.
            share: of training that is the first phase; the default is 30 of 240 epochs.
            weight: of the sum over consecutive stages; the 50 of RepDistiller's script multiplies no term of its code.
        """

        taps: tuple[str, ...] = (ALL_STAGES,)
        share: Annotated[float, Field(gt=0, lt=1)] = 0.125
        weight: Annotated[float, Field(gt=0)] = searched(1.0, 0.1, 100.0)

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Feature maps of the stages, and a first phase."""
        first = Phase(FLOW, share=self.settings.share, trains=("student.body", "method"))
        trained = frozenset({"trainable-parts"})
        return Needs(taps=tuple(self.settings.taps), views="shared", capabilities=trained, phases=(first,))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """There must be two maps."""
        from adm_core import align

        if len(members(self.settings.taps, student)) < 2:
            return "FSP compares how one map leads to the next: it needs two taps"
        return align.why_not_maps(self.settings.taps, student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """A 1×1 convolution for each stage whose widths differ."""
        from adm_core import align

        return {"adapters": align.make_width_adapters(self.settings.taps, student, teacher)}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``flow``, in the first phase; nothing afterwards."""
        if step.phase != FLOW:
            return Losses()
        s, adapters = self.settings, self.parts["adapters"]
        own = [adapter(f) for adapter, f in zip(adapters, student.maps(s.taps), strict=True)]  # type: ignore[call-overload]
        distance = losses.channels.flow_distance(own, teacher.detached().maps(s.taps), step.mask)
        return Losses(student={"flow": s.weight * distance}, student_task=0.0)
