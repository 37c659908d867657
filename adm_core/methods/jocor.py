"""JoCoR: two networks agree, and learn from the examples on which they do (Wei et al., arXiv:2003.02752)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class JoCoR(Method):
    """``l = (1 - agreement) (CE_1 + CE_2) + agreement (KL(p_1 || p_2) + KL(p_2 || p_1))``, mean over what is kept.

    (arXiv:2003.02752.) Of a batch the share ``1 - f`` with the smallest l is kept, f rising linearly from 0 to
    ``forget`` over the first part of training. One loss trains both networks: no target of a KL is constant, so
    each network's term ``agreement`` is half of the joint one and reaches the other as well. A control for labels that
    are partly wrong; ``forget`` should be their share.
    """

    card = MethodCard(
        name="jocor",
        title="Joint Training with Co-Regularization",
        paper="arXiv:2003.02752",
        year=2020,
        regimes=frozenset({"online", "peers"}),
        family="logits",
        detached=False,
    )
    needs = Needs("class_logits", peers=1)

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of the authors' code; their paper has ``agreement`` between 0.5 and 0.95 by data set.

        Attributes:
            agreement: λ, share of the divergences in the loss.
            forget: largest share of a batch that is left out.
            ramp: share of training over which that rises; 10 of 200 epochs.
        """

        agreement: Annotated[float, Field(ge=0, le=1)] = searched(0.1, 0.05, 0.95, scale="linear")
        forget: Annotated[float, Field(ge=0, lt=1)] = searched(0.2, 0.0, 0.5, scale="linear")
        ramp: Annotated[float, Field(ge=0, le=1)] = 0.05

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Whole examples are chosen, by their one label."""
        return None if len(student["prediction"]) == 2 else "JoCoR chooses examples by their one label"

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``supervised`` and ``agreement`` of each network, in place of its task loss."""
        s, kl = self.settings, losses.logits.kl_map
        one, two = (view.prediction for view in step.views.values())
        supervised = {role: (1 - s.agreement) * view.task_loss for role, view in step.views.items()}
        agreement = s.agreement * (kl(one, two) + kl(two, one))
        joint = sum(supervised.values(), agreement)
        kept = losses.difficulty.easiest(joint, s.forget * step.ramp(s.ramp))
        half = agreement[kept].mean() / 2
        terms = {role: {"supervised": own[kept].mean(), "agreement": half} for role, own in supervised.items()}
        return replace(Losses.of_roles(terms), student_task=0.0, teacher_task=0.0)
