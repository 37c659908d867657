"""FFL: networks learn from a classifier of their fused maps, which learns from their ensemble (arXiv:1904.09058)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import nn


@register
class FFL(Method):
    """``Σ_k CE(z_k) + CE(z_f) + w (Σ_k T² KL(p_f || p_k) + T² KL(p_mean || p_f))`` (Kim et al., arXiv:1904.09058).

    z_f [B, K] are the logits of a fusion of the last maps of all networks: they are concatenated, and pass a depthwise
    3×3 and a 1×1 convolution, each with batch norm and ReLU, and a linear layer on the mean. p_mean is the softmax of
    the networks' mean logits. The first argument of a KL is constant. CE(z_f), and the fusion's KL, train
    the networks as well, as in the authors' code. The weight w = exp(-5 (1 - t / ramp)²) rises over the first part of
    training. What is left after training is the student by itself (FFL-S); the fused classifier is left behind.

    Doubts: the authors give the fusion an SGD of its own of ten times less weight decay; here it joins the networks'.
    Their code adds 1e-7 to the probabilities of a target. Of unequal networks maps are pooled to the smallest size, and
    the fused map is as wide as the widest.
    """

    card = MethodCard(
        name="ffl",
        title="Feature Fusion Learning",
        paper="arXiv:1904.09058",
        year=2019,
        regimes=frozenset({"online", "peers"}),
        family="logits",
        detached=False,
    )
    only_in: ClassVar[Mapping[str, str]] = {"networks": "peers"}

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR: T = 3, ramp of 80 of 300 epochs.

        Attributes:
            weight: of the divergences when fully risen.
            temperature: T.
            ramp: share of training over which w rises to 1.
            networks: K, among peers.
        """

        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        temperature: Annotated[float, Field(gt=0)] = searched(3.0, 1.0, 8.0)
        ramp: Annotated[float, Field(ge=0, le=1)] = 4 / 15
        networks: Annotated[int, Field(ge=2)] = 2

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Class logits and last maps of the same positions; K networks among peers."""
        learns, peers = frozenset({"trainable-parts"}), self.settings.networks - 1
        return Needs("class_logits", ("last",), views="shared", capabilities=learns, peers=peers)

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """The fused classifier reads the mean of maps."""
        from adm_core import align

        if len(student["prediction"]) != 2:
            return "FFL's fused classifier gives one prediction for each example"
        return align.why_not_maps(("last",), student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The fusion of concatenated maps, to logits."""
        from torch import nn

        from adm_core.classifiers import pooled_classifier, separable_block

        widths = [(student if role == "student" else teacher)["last"][1] for role in facts.roles]
        block, classifier = (
            separable_block(sum(widths), max(widths)),
            pooled_classifier(max(widths), student["prediction"][1]),
        )
        return {"fusion": nn.Sequential(*block, *classifier)}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term each, ``fusion``; the fused classifier's are ``labels`` (CE) and ``ensemble``."""
        import torch

        from adm_core import align

        s, kl, views = self.settings, losses.logits.kl_divergence, step.views
        w = s.weight * step.consistency_ramp(s.ramp)
        maps = [view.features["last"] for view in views.values()]
        size = (min(m.shape[2] for m in maps), min(m.shape[3] for m in maps))
        fused = self.parts["fusion"](torch.cat([align.pool_map(m, size) for m in maps], 1))
        mean = torch.stack([view.prediction for view in views.values()]).mean(0).detach()
        fixed = fused.detach()
        found = Losses.of_roles(
            {role: {"fusion": w * kl(view.prediction, fixed, s.temperature)} for role, view in views.items()}
        )
        own = {
            "labels": losses.logits.cross_entropy(fused, step.target),
            "ensemble": w * kl(fused, mean, s.temperature),
        }
        return replace(found, parts=own)
