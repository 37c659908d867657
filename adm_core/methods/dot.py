"""DOT: a larger momentum for the distillation's gradients than for the task's (Zhao et al., arXiv:2307.08436, 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched


@register
class DOT(Method):
    """Two momentum buffers, ``v ← (μ - Δ) v + g_task`` and ``w ← (μ + Δ) w + g_kd``; ``θ ← θ - lr (v + w)``.

    arXiv:2307.08436, section 4. μ is the recipe's momentum; weight decay joins the task's gradient. It has no loss of
    its own: compose it, ``kd+dot`` is the published row. A weight that one of the two gradients alone reaches has
    momentum μ, as in the authors' code, so that alone it trains as no distillation. The task's gradient is that of the
    suite's own task loss: a further loss on labels that a method beside it has (of a branch, a fused or an auxiliary
    classifier) is one of its terms, and counts as distillation.
    """

    card = MethodCard(
        name="dot",
        title="Distillation-Oriented Trainer",
        paper="arXiv:2307.08436",
        year=2023,
        regimes=frozenset({"offline", "online", "peers"}),
        family="optimisation",
        version=2,
    )
    needs = Needs(teacher=False, gradient_groups=True)

    @dataclass(frozen=True)
    class Settings:
        """The default is the authors' on CIFAR-100 (0.09 on ImageNet).

        Attributes:
            delta: Δ.
        """

        delta: Annotated[float, Field(ge=0, lt=1)] = searched(0.075, 0.0, 0.09, scale="linear")

    def momentum(self) -> Mapping[str, float]:
        """Less for the task, more for the distillation."""
        return {"task": -self.settings.delta, "distillation": self.settings.delta}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """No term."""
        return Losses()
