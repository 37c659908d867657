"""No distillation: every network trains on its task alone. The baseline of every comparison."""

from __future__ import annotations

from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register


@register
class NoDistillation(Method):
    """Both networks see their own task loss and nothing else; online, the teacher is then the lone teacher."""

    card = MethodCard(
        name="none",
        title="No distillation",
        paper="",
        year=2026,
        regimes=frozenset({"offline", "online", "peers"}),
        family="baseline",
    )
    needs = Needs(teacher=False)

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """No term."""
        return Losses()
