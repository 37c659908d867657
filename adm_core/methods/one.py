"""ONE: branches of one network learn from their gated ensemble (Lan, Zhu, Gong, arXiv:1806.04606, NeurIPS 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Branches, Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import Tap, searched

if TYPE_CHECKING:
    from torch import nn


@register
class ONE(Method):
    """``Σ_m CE(z_m) + CE(z_e) + w Σ_m T² KL(p_e(T) || p_m(T))``, the ensemble detached in KL (arXiv:1806.04606).

    z_m [B, K] are the logits of ``count`` branches which share everything up to the tap ``after``, z_e = Σ_m g_m z_m
    those of the ensemble, and g = softmax(ReLU(BN(W f))) [B, count] a gate on the averaged map f of that tap. The
    weight w = exp(-5 (1 - t / ramp)²) rises over the first part of training. Of dense predictions [B, K, h, w] the
    gate is the image's. What is left after training is the first branch, the student itself.
    """

    card = MethodCard(
        name="one",
        title="On-the-fly Native Ensemble",
        paper="arXiv:1806.04606",
        year=2018,
        regimes=frozenset({"peers"}),
        family="logits",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR: three branches after the second stage, T = 3, ramp of 80 of 300 epochs.

        Attributes:
            count: branches in all.
            after: tap up to which they share everything.
            temperature: T.
            ramp: share of training over which w rises to 1.
        """

        count: Annotated[int, Field(ge=2)] = 3
        after: Tap = "stage2"
        temperature: Annotated[float, Field(gt=0)] = searched(3.0, 1.0, 8.0)
        ramp: Annotated[float, Field(ge=0, le=1)] = 4 / 15

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """The branches, and the map on which they are weighed."""
        s, learns = self.settings, frozenset({"trainable-parts"})
        return Needs("class_logits", taps=(s.after,), branches=Branches(s.count, s.after), capabilities=learns)

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """The gate reads a map."""
        if len(student[self.settings.after]) != 4:
            return f"tap {self.settings.after} is not a feature map [B, C, H, W]"
        return None

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The gate, [B, C] to one number per branch."""
        from torch import nn

        width, count = student[self.settings.after][1], self.settings.count
        linear = nn.Linear(width, count, bias=False)  # the normalisation behind it takes a bias out again
        return {"gate": nn.Sequential(linear, nn.BatchNorm1d(count), nn.ReLU())}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``ensemble`` (CE), ``distillation`` (KL of every branch), and ``branch2``, ... (CE of the others)."""
        from torch import stack

        s = self.settings
        gate = self.parts["gate"](student.features[s.after].mean((2, 3))).softmax(1)
        ensemble = losses.logits.gated_ensemble(stack([branch.prediction for branch in student.branches]), gate)
        terms = losses.branches.task_losses(student.branches, step.mask)
        terms["ensemble"] = losses.logits.masked_cross_entropy(ensemble, step.target, step.mask)
        fixed = ensemble.detach()
        each = [losses.logits.kl_divergence(b.prediction, fixed, s.temperature, step.mask) for b in student.branches]
        terms["distillation"] = step.consistency_ramp(s.ramp) * stack(each).sum()
        return Losses(student=terms)
