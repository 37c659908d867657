"""AB: knowledge transfer via distillation of activation boundaries (Heo et al., arXiv:1811.03233, AAAI 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.card import PREACTS, members
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Phase, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import nn

CONNECTOR = "connector"
"""The phase in which the method acts."""


@register
class AB(Method):
    """First the student's neurons learn on which side of zero the teacher's are, then labels alone are learnt.

    In the phase ``connector`` body and connectors r train by ``weight · Σ_l d(r_l(F_s^l), F_t^l) / 2^(L - l)`` over
    stages l = 1 ... L before their last activation, and the classifier rests; d is the alternative loss of
    arXiv:1811.03233, eq. 5 (:func:`adm_core.losses.preact.alternative_l2`), a sum over channels and positions. r is a
    convolution with batch normalisation to the teacher's shape, nothing where shapes agree. In the rest of training,
    which has the recipe's task loss alone, the connectors rest; compose ``kd+ab`` to add KD there. The recipe's
    schedule runs once over both; the authors start it anew.
    """

    card = MethodCard(
        name="ab",
        title="Activation Boundaries",
        paper="arXiv:1811.03233",
        year=2019,
        regimes=frozenset({"offline"}),
        family="features",
        version=2,  # of SGD that is fused in every phase
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are RepDistiller's on CIFAR-100, where 30 epochs go before 240.

        Attributes:
            share: of training that is the first phase; the default is 30 of 240 epochs.
            margin: m.
            weight: of the loss per example.
        """

        share: Annotated[float, Field(gt=0, lt=1)] = 0.125
        margin: Annotated[float, Field(gt=0)] = 1.0
        weight: Annotated[float, Field(gt=0)] = searched(0.003, 0.0003, 0.03)

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Maps before activations, and a first phase."""
        first = Phase(CONNECTOR, share=self.settings.share, trains=("student.body", "method"))
        return Needs(taps=(PREACTS,), views="shared", capabilities=frozenset({"trainable-parts"}), phases=(first,))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Stages must be maps, the student's not smaller in an odd ratio."""
        from adm_core import align

        reasons = (align.why_no_regressor(tap, student, teacher) for tap in members((PREACTS,), student))
        return next((reason for reason in reasons if reason), None)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """A connector for each stage."""
        from torch import nn

        from adm_core import align

        connectors = nn.ModuleList()
        for tap in members((PREACTS,), student):
            if student[tap][1:] == teacher[tap][1:]:
                connectors.append(nn.Identity())
                continue
            # FitNets' regressor without its activation, and without the bias, which the normalisation takes away.
            regressor = align.make_hint_regressor(student[tap], teacher[tap])[:-1]
            regressor[0].register_parameter("bias", None)
            connectors.append(regressor)
        return {"connectors": connectors}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``boundary``, in the first phase; nothing afterwards."""
        if step.phase != CONNECTOR:
            return Losses()
        connectors, total = self.parts["connectors"], student.prediction.new_zeros(())
        pairs = zip(student.maps((PREACTS,)), teacher.detached().maps((PREACTS,)), connectors, strict=True)  # type: ignore[call-overload]
        for own, fixed, connector in pairs:
            distance = losses.preact.alternative_l2(connector(own), fixed, self.settings.margin, step.mask)
            # Halved for each stage that comes after.
            total = total / 2 + distance
        return Losses(student={"boundary": self.settings.weight * total}, student_task=0.0)
