"""Competitive distillation: in each batch the network that is best on it teaches the others (arXiv:2506.23285)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor


@register
class Competitive(Method):
    """``CE + logit_weight · KL(p_best || p) + feature_weight · mean (F_best - F)²``; the best itself: CE.

    (arXiv:2506.23285.) The best of a batch is the network of the smallest task loss on it; its predictions p_best and
    its last map F_best [B, C, H, W] are constants. The choice costs one device synchronisation per step.

    Doubts: we know the paper by its formulas alone, which leave open what features are compared, and how where widths
    differ. Here it is the last maps; the wider averages neighbouring channels, the larger is pooled. The paper
    also perturbs what one network, drawn at random, is shown; that is left out.
    """

    card = MethodCard(
        name="competitive",
        title="Competitive Distillation",
        paper="arXiv:2506.23285",
        year=2025,
        regimes=frozenset({"online", "peers"}),
        family="logits",
    )
    only_in: ClassVar[Mapping[str, str]] = {"networks": "peers"}

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the paper's: both weights 1.

        Attributes:
            logit_weight: of the divergence.
            feature_weight: of the squared difference of maps.
            networks: K, among peers.
        """

        logit_weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        feature_weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        networks: Annotated[int, Field(ge=2)] = 2

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Class logits and last maps of the same positions; K networks among peers."""
        waits, peers = frozenset({"host-synchronisation"}), self.settings.networks - 1
        return Needs("class_logits", ("last",), views="shared", capabilities=waits, peers=peers)

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Features are compared where they are maps."""
        from adm_core import align

        return align.why_not_maps(("last",), student, teacher)

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``logits`` and ``features`` of all but the best network; logs how often that is the student."""
        import torch

        s, roles = self.settings, list(step.views)
        task = torch.stack([losses.spatial.masked_mean(v.task_loss.detach(), step.mask) for v in step.views.values()])
        place = task.argmin()
        best = roles[int(place)]
        target = step.views[best].detached()
        terms = {}
        for role, own in ((r, v) for r, v in step.views.items() if r != best):
            divergence = losses.logits.kl_divergence(own.prediction, target.prediction, mask=step.mask)
            difference = _squared_difference(own.features["last"], target.features["last"], step.mask)
            terms[role] = {"logits": s.logit_weight * divergence, "features": s.feature_weight * difference}
        found = Losses.of_roles(terms)
        return Losses(found.student, found.teacher, found.peers, log={"student_teaches": (place == 0).to(task.dtype)})


def _squared_difference(own: Tensor, best: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over channels and valid positions of two maps brought to the smaller width and size."""
    from adm_core import align

    ours, theirs = align.match_width(*align.match_size(own, best), "pool")
    return losses.spatial.masked_mean((ours - theirs).pow(2).mean(1), mask)
