"""OKDPH: networks learn with the one of their mean weights, and are drawn to it (Zhang et al., arXiv:2303.14666)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal, cast

from pydantic import Field

from adm_core import losses
from adm_core.card import MEAN
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import nn

    from adm_core.mean_network import MeanNetwork


@register
class ParameterHybridization(Method):
    """Each of K networks: ``ω CE(z_i) + (1 - ω) CE(z_h) + β T² KL(p_mean || p_i)`` (arXiv:2303.14666, authors' code).

    z_h are the logits of the hybrid, the network of the weights ``θ_h = (θ_1 + ... + θ_K) / K``, batch normalisation on
    the batch's statistics; p_mean, a constant, is the softmax of the mean logits of all networks and the hybrid. After
    every ``every``-th step ``θ_i ← γ θ_h + (1 - γ) θ_i``, running statistics too. All networks begin alike; each of
    them, and the hybrid, sees its own augmentation. The first network is deployed.

    CE(z_h) reaches every network by its share 1 / K of the hybrid, which is the gradient of its own loss. Every
    network's term ``hybrid`` is one K-th of ``(1 - ω) CE(z_h)``, so that the terms' sum has that very gradient.

    Verified (tianlizhang/OKDPH at a562089): the terms and numbers. There the hybrid is a copy, so that CE(z_h) trains
    nothing (``form="as-released"``), contrary to the paper's abstract. Ours: networks move to the mean after the step,
    in the code to that before it, by which γ = 1 undoes the step; all augmentations are of one kind, there one of the
    networks' differs from another's; the hybrid of weights drawn from a Dirichlet distribution is left out. The code
    prints the best network of all, the hybrid among them, at its best epoch.
    """

    card = MethodCard(
        name="okdph",
        title="Online Knowledge Distillation via Parameter Hybridization",
        paper="arXiv:2303.14666",
        year=2023,
        regimes=frozenset({"peers"}),
        family="logits",
        detached=False,
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' for ResNet-110 on CIFAR-100; for ResNet-32 ω = 1, β = 0.5, γ = 1.

        Attributes:
            omega: ω, share of a network's own CE.
            beta: β, weight of the divergence.
            gamma: γ, how far networks move to the hybrid.
            every: steps from one move to the next.
            temperature: T.
            networks: K.
            form: ``as-released``: the hybrid's CE trains nothing.
        """

        omega: Annotated[float, Field(gt=0, le=1)] = searched(0.8, 0.3, 1.0, scale="linear")
        beta: Annotated[float, Field(ge=0)] = searched(0.8, 0.1, 10.0)
        gamma: Annotated[float, Field(ge=0, le=1)] = searched(0.5, 0.0, 1.0, scale="linear")
        every: Annotated[int, Field(ge=1)] = 5
        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0)
        networks: Annotated[int, Field(ge=2)] = 2
        form: Literal["paper", "as-released"] = "paper"

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """K networks with views of their own, and that of their mean weights."""
        own = frozenset({"own-views"})
        copies, peers = {"hybrid": MEAN}, self.settings.networks - 1
        return Needs("class_logits", views="own", capabilities=own, copies=copies, peers=peers)

    def take(self, parts: Mapping[str, nn.Module]) -> None:
        """Keep the hybrid, and let the networks begin alike."""
        super().take(parts)
        self._hybrid.start_alike()

    @property
    def _hybrid(self) -> MeanNetwork:
        return cast("MeanNetwork", self.parts["hybrid"])

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``ensemble`` and, unless ω = 1 or as released, ``hybrid`` of every network."""
        import torch

        s, views, hybrid = self.settings, step.views, step.copies["hybrid"]
        shown = [view.prediction for view in (*views.values(), hybrid)]
        mean, kl = torch.stack(shown).mean(0).detach(), losses.logits.kl_divergence
        terms = {
            role: {"ensemble": s.beta * kl(own.prediction, mean, s.temperature, step.mask)}
            for role, own in views.items()
        }
        if s.omega < 1 and s.form == "paper":
            own_share = (1 - s.omega) / len(views) * losses.spatial.masked_mean(hybrid.task_loss, step.mask)
            terms = {role: own | {"hybrid": own_share} for role, own in terms.items()}
        return replace(Losses.of_roles(terms), student_task=s.omega)

    def after_step(self) -> None:
        """Let the networks move to the hybrid when it is time."""
        self._hybrid.gather(self.settings.gamma, self.settings.every)
