"""Co-teaching: each of two networks learns from examples that the other finds easy (Han et al., arXiv:1804.06872)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class CoTeaching(Method):
    """Each network: the mean of its CE over the share ``1 - f`` of a batch on which the *other's* CE is smallest.

    (arXiv:1804.06872, algorithm 1.) f rises linearly from 0 to ``forget`` over the first part of training. The
    released code divides this mean by the number of examples once more; here it is the mean, as in the paper. A control
    for labels that are partly wrong; ``forget`` should be their share.
    """

    card = MethodCard(
        name="co-teaching",
        title="Co-teaching",
        paper="arXiv:1804.06872",
        year=2018,
        regimes=frozenset({"online", "peers"}),
        family="logits",
    )
    needs = Needs("class_logits", peers=1)

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' for a fifth of wrong labels, on CIFAR.

        Attributes:
            forget: largest share of a batch that is left out.
            ramp: share of training over which that rises; 10 of 200 epochs.
        """

        forget: Annotated[float, Field(ge=0, lt=1)] = searched(0.2, 0.0, 0.5, scale="linear")
        ramp: Annotated[float, Field(ge=0, le=1)] = 0.05

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Whole examples are chosen, by their one label."""
        return None if len(student["prediction"]) == 2 else "co-teaching chooses examples by their one label"

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term each, ``chosen``, in place of the task loss."""
        forget = self.settings.forget * step.ramp(self.settings.ramp)
        (one, own), (two, other) = ((role, view.task_loss) for role, view in step.views.items())
        easy = losses.difficulty.easiest
        terms = {one: {"chosen": own[easy(other, forget)].mean()}, two: {"chosen": other[easy(own, forget)].mean()}}
        return replace(Losses.of_roles(terms), student_task=0.0, teacher_task=0.0)
