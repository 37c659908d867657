"""OKDDip: peers with targets of their own, and a leader that learns from all (Chen et al., arXiv:1912.00350)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from adm_core import losses
from adm_core.method import Branches, Facts, Losses, Method, MethodCard, Needs, Scalar, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import Tap, searched

if TYPE_CHECKING:
    from torch import Tensor, nn


@register
class OKDDip(Method):
    """``Σ_m CE(z_m) + CE(z_l) + w (Σ_m T² KL(p_t,m || p_m) + T² KL(p_mean || p_l))`` (arXiv:1912.00350, eqs. 2-6).

    Of ``count`` branches, which share everything up to the tap ``after``, or in form ``networks`` of as many networks,
    the first is the leader l, the student itself, and the others are auxiliary peers m. A peer's target has the logits
    ``z_t,m = Σ_j A_mj z_j`` with ``A_m = softmax_j(q_m · k_j)``, itself among the j; q and k are linear maps of what
    its classifier reads to 1 / ``factor`` of the width, shared by the peers, without bias. p_mean is the softmax of the
    peers' mean logits. **Targets are not constants**, as in the authors' code: that is how q and k learn. The weight w
    = exp(-5 (1 - t / ramp)²) rises over the first part of training. What is left after training is the leader. Dense
    predictions are weighed per image. The authors' code adds 1e-7 to the probabilities of a target, for ONE and CL-ILR
    as well, which this does not.
    """

    card = MethodCard(
        name="okddip",
        title="Online Knowledge Distillation with Diverse Peers",
        paper="arXiv:1912.00350",
        year=2020,
        regimes=frozenset({"peers"}),
        family="logits",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR: three peers and a leader, T = 3, ramp of 80 of 300 epochs.

        Attributes:
            count: branches or networks in all, the leader included.
            after: tap up to which branches share everything.
            form: ``branches`` of one network, or ``networks``.
            weight: α, of the divergences when fully risen.
            temperature: T.
            ramp: share of training over which w rises to 1.
            factor: by how much q and k are narrower than what they read.
        """

        count: Annotated[int, Field(ge=3)] = 4
        after: Tap = "stage2"
        form: Literal["branches", "networks"] = "branches"
        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        temperature: Annotated[float, Field(gt=0)] = searched(3.0, 1.0, 8.0)
        ramp: Annotated[float, Field(ge=0, le=1)] = 4 / 15
        factor: Annotated[int, Field(ge=1)] = 8

    def __init__(self, **settings: Scalar) -> None:
        super().__init__(**settings)
        if self.settings.form == "networks":  # whose targets pass gradients from one to another
            self.card = replace(self.card, detached=False)  # type: ignore[misc]

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """The branches or networks, and what their classifiers read."""
        s, common = self.settings, Needs("class_logits", ("penultimate",), capabilities=frozenset({"trainable-parts"}))
        if s.form == "networks":
            return replace(common, peers=s.count - 1)
        return replace(common, branches=Branches(s.count, s.after))

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The maps to q and k."""
        from torch import nn

        width = student["penultimate"][1]
        inner = max(width // self.settings.factor, 1)
        return {name: nn.Linear(width, inner, bias=False) for name in ("query", "key")}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``peers`` and ``leader`` (KL), and ``branch2``, ... (CE of peers that are branches)."""
        import torch

        s, kl = self.settings, losses.logits.kl_divergence
        leader, *peers = student.branches or step.views.values()
        w, logits = s.weight * step.consistency_ramp(s.ramp), torch.stack([peer.prediction for peer in peers], 1)
        targets = torch.einsum("bmj,bj...->mb...", self._attention(peers), logits)
        each = [kl(p.prediction, t, s.temperature, step.mask) for p, t in zip(peers, targets, strict=True)]
        terms = {"leader": w * kl(leader.prediction, logits.mean(1), s.temperature, step.mask)}
        if s.form == "networks":
            own = {f"peer{number}": {"peers": w * term} for number, term in enumerate(each, start=1)}
            return Losses.of_roles({"student": terms, **own})
        terms["peers"] = w * torch.stack(each).sum()
        return Losses(student=losses.branches.task_losses(student.branches, step.mask) | terms)

    def _attention(self, peers: list[View]) -> Tensor:
        """A, [B, peers, peers], rows of sum 1."""
        import torch

        read = torch.stack([losses.examples.pooled(peer.features["penultimate"])[0] for peer in peers], 1)
        scores: Tensor = self.parts["query"](read) @ self.parts["key"](read).transpose(1, 2)
        return scores.softmax(2)
