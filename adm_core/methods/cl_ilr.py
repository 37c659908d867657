"""CL-ILR: branches of one network learn from each other (Song & Chai, arXiv:1805.11761, NeurIPS 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Branches, Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import Tap, searched


@register
class CollaborativeLearning(Method):
    """``Σ_m CE(z_m) + w Σ_m T² KL(p_others,m || p_m)``, p_others,m the softmax of the mean logits of all but branch m.

    (arXiv:1805.11761, as OKDDip's authors have it.) The M branches share everything up to the tap ``after``, which gets
    the mean of their gradients, not the sum (intermediate-level representation sharing with backward rescaling).
    **Targets are not constants**: gradients flow into the branches that make them. The weight w = exp(-5 (1 - t /
    ramp)²) rises over the first part of training. What is left after training is the first branch.

    A doubt: the paper weights CE and KL by 1 - β and β without a ramp, and branches as a tree; the form that later
    tables compare with is this one.
    """

    card = MethodCard(
        name="cl-ilr",
        title="Collaborative Learning with intermediate-level representation sharing",
        paper="arXiv:1805.11761",
        year=2018,
        regimes=frozenset({"peers"}),
        family="logits",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are those of OKDDip's authors on CIFAR: four branches, T = 3, ramp of 80 of 300 epochs.

        Attributes:
            count: M, branches in all.
            after: tap up to which they share everything.
            weight: of the divergences when fully risen.
            temperature: T.
            ramp: share of training over which w rises to 1.
        """

        count: Annotated[int, Field(ge=2)] = 4
        after: Tap = "stage2"
        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        temperature: Annotated[float, Field(gt=0)] = searched(3.0, 1.0, 8.0)
        ramp: Annotated[float, Field(ge=0, le=1)] = 4 / 15

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """The branches."""
        s = self.settings
        return Needs("class_logits", branches=Branches(s.count, s.after, mean_gradient=True))

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``distillation`` (of every branch), and ``branch2``, ... (CE of all but the first)."""
        import torch

        s = self.settings
        logits = torch.stack([branch.prediction for branch in student.branches])
        others = (logits.sum(0) - logits) / (s.count - 1)
        kl = losses.logits.kl_divergence
        each = [kl(z, target, s.temperature, step.mask) for z, target in zip(logits, others, strict=True)]
        terms = losses.branches.task_losses(student.branches, step.mask)
        terms["distillation"] = s.weight * step.consistency_ramp(s.ramp) * torch.stack(each).sum()
        return Losses(student=terms)
