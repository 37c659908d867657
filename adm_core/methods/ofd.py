"""OFD: a comprehensive overhaul of feature distillation (Heo et al., arXiv:1904.01866, ICCV 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.card import PREACTS, members
from adm_core.errors import Unsupported
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import nn


@register
class OFD(Method):
    """``weight · Σ_l d(r_l(F_s^l), F_t^l) / 2^(L - l)`` over stages l = 1 ... L before their last activation.

    d is the partial L2 distance of arXiv:1904.01866, eq. 3 (:func:`adm_core.losses.preact.partial_l2`), a sum over
    channels and positions, to the teacher's map [B, C_t, H, W] cut off at a margin per channel: the mean of its
    negative responses, from weight and bias of the batch normalisation behind it (eq. 4). r is a 1×1 convolution with
    batch normalisation; the teacher's map is pooled to the student's size. The teacher's normalisation uses its
    running statistics; the reference code of mdistiller lets it use and update those of the batch. In a residual
    stage the normalisation is that of the last block's body, as there.
    """

    card = MethodCard(
        name="ofd",
        title="Overhaul of Feature Distillation",
        paper="arXiv:1904.01866",
        year=2019,
        regimes=frozenset({"offline"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """The weight is the authors' and mdistiller's on CIFAR-100."""

        weight: Annotated[float, Field(ge=0)] = searched(1e-3, 0.0001, 0.01)

    needs = Needs(taps=(PREACTS,), views="shared", capabilities=frozenset({"trainable-parts"}))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Stages must be maps."""
        from adm_core import align

        return align.why_not_maps((PREACTS,), student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """A connector for each stage, which also holds the teacher's margin.

        Raises:
            Unsupported: a stage of the teacher has no batch normalisation before its last activation.
        """
        from torch import nn

        from adm_core import align

        taps = members((PREACTS,), student)
        bare = [tap for tap in taps if tap not in facts.normalisation]
        if bare:
            raise Unsupported(f"OFD needs a batch normalisation behind each of the teacher's maps; {bare[0]} has none")
        connectors = nn.ModuleList()
        for tap in taps:
            weight, bias = facts.normalisation[tap]
            connectors.append(align.make_projector(student[tap][1], teacher[tap][1]))
            nn.init.kaiming_normal_(connectors[-1][0].weight, mode="fan_out", nonlinearity="relu")  # type: ignore[index]
            connectors[-1].register_buffer("margin", losses.preact.negative_mean(bias, weight))
        return {"connectors": connectors}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``preact``."""
        from adm_core import align

        connectors, total = self.parts["connectors"], student.prediction.new_zeros(())
        pairs = zip(student.maps((PREACTS,)), teacher.detached().maps((PREACTS,)), connectors, strict=True)  # type: ignore[call-overload]
        for own, fixed, connector in pairs:
            fitted = align.pool_map(fixed, (own.shape[2], own.shape[3]))
            distance = losses.preact.partial_l2(connector(own), fitted, connector.margin, step.mask)
            # Halved for each stage that comes after.
            total = total / 2 + distance
        return Losses(student={"preact": self.settings.weight * total})
