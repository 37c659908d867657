"""PCL: peers learn from their ensemble and from each other's moving averages (Wu & Gong, AAAI 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import nn

    from adm_core.network_copy import NetworkCopy
    from adm_core.taps import Network


@register
class PeerCollaborative(Method):
    """``CE(z_e) + Σ_i [CE(z_i) + w T² KL(p_e || p_i) + w mean_(j≠i) T² KL(p_mean,j || p_i)]`` (Wu & Gong, AAAI 2021).

    z_e [B, K] are the logits of a linear classifier on the concatenation of what all networks' classifiers read;
    CE(z_e) trains the networks as well. p_mean,j is what the moving average of network j predicts; it follows
    ``a ← α_t a + (1 - α_t) θ`` after step t = 1, 2, ... with ``α_t = min(1 - 1 / (t + 1), decay)``. Averages run in
    training mode, with normalisation statistics of their own, as in known public code
    (shaoeric/Peer-Collaborative-Learning-for-Online-Knowledge-Distillation at 9d0909b). The first argument of a KL is
    constant. The weight w = exp(-5 (1 - t / ramp)²) rises over the first part of training and stays 1. What is left
    after training is the first network's average.

    Left out: the paper lets peers share their first stages and shows each an augmentation of its own; here they are
    whole networks that see the same. That public code ramps over one epoch and falls to 0 until the 80th; not so here.
    """

    card = MethodCard(
        name="pcl",
        title="Peer Collaborative Learning",
        paper="AAAI 2021, Wu and Gong",
        year=2021,
        regimes=frozenset({"peers"}),
        family="logits",
        detached=False,
        deployed="moving average of the student",
        version=2,  # averages keep normalisation statistics of their own
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the paper's on CIFAR: three peers, T = 3, ramp of 80 of 300 epochs.

        Attributes:
            weight: of the divergences when fully risen.
            temperature: T.
            ramp: share of training over which w rises to 1.
            decay: largest α. Averages look back over about 1 / (1 - decay) steps: of a training of some hundred steps
                they keep what networks were at its beginning, and a smaller decay is wanted.
            networks: equal networks in all.
        """

        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        temperature: Annotated[float, Field(gt=0)] = searched(3.0, 1.0, 8.0)
        ramp: Annotated[float, Field(ge=0, le=1)] = 4 / 15
        decay: Annotated[float, Field(ge=0, lt=1)] = searched(0.999, 0.9, 0.999, scale="linear")
        networks: Annotated[int, Field(ge=2)] = 3

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """K networks, their averages, and what their classifiers read."""
        learns, peers = frozenset({"trainable-parts"}), self.settings.networks - 1
        roles = ("student", *(f"peer{number}" for number in range(1, peers + 1)))
        copies = {f"average_{role}": role for role in roles}
        trains, read = frozenset(copies), ("penultimate",)
        return Needs("class_logits", read, capabilities=learns, peers=peers, copies=copies, training_copies=trains)

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """The ensemble's classifier reads one vector for each example."""
        return None if len(student["penultimate"]) == 2 else "PCL's ensemble needs one vector for each example"

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The ensemble's classifier."""
        from torch import nn

        width, classes = student["penultimate"][1], student["prediction"][1]
        return {"ensemble": nn.Linear(len(facts.roles) * width, classes)}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``ensemble`` and ``averages`` of each network; the ensemble's own is ``labels`` (CE)."""
        import torch

        s, kl, views = self.settings, losses.logits.kl_divergence, step.views
        w = s.weight * step.consistency_ramp(s.ramp)
        together = self.parts["ensemble"](torch.cat([view.features["penultimate"] for view in views.values()], 1))
        fixed, terms = together.detach(), {}
        for role, own in views.items():
            others = (step.copies[f"average_{other}"].prediction for other in views if other != role)
            averages = torch.stack([kl(own.prediction, target, s.temperature) for target in others]).mean()
            terms[role] = {"ensemble": w * kl(own.prediction, fixed, s.temperature), "averages": w * averages}
        labels = losses.logits.cross_entropy(together, step.target)
        return replace(Losses.of_roles(terms), parts={"labels": labels})

    def after_step(self) -> None:
        """Let every average follow its network."""
        for name in self.needs.copies:
            average = cast("NetworkCopy", self.parts[name])
            average.follow(lambda before: min(1 - 1 / (before + 2), self.settings.decay))

    def deployed(self, networks: Mapping[str, Network]) -> nn.Module:
        """The first network's average."""
        return cast("NetworkCopy", self.parts["average_student"]).network
