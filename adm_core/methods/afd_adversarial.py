"""AFD: networks that learn each other's distribution of feature maps from critics (Chung et al., arXiv:2002.01775)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Adam, Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View, constant
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor, nn


@register
class AdversarialFeatures(Method):
    """Each of two networks: ``CE + T² KL(p_other || p) + weight · mean (1 - D(A(F)))²`` (arXiv:2002.01775).

    F is the network's last map [B, C, H, W], A a 1×1 convolution to the other's width where widths differ. The
    network's critic D, a constant here, minimises ``mean D(A(F))² + mean (1 - D(F_other))²`` and so tells its map from
    the other's. The other's predictions and maps are constants.

    Doubts: written without the authors' code. The critic here is two 3×3 convolutions of stride 2 with LeakyReLU and a
    linear layer on the mean, trained by Adam; the terms on maps join the networks' own optimiser, where the authors
    have others of another learning rate. Larger maps are pooled to the smaller size.
    """

    card = MethodCard(
        name="afd-adversarial",
        title="Feature-map-level Online Adversarial Knowledge Distillation",
        paper="arXiv:2002.01775",
        year=2020,
        regimes=frozenset({"online", "peers"}),
        family="features",
    )
    needs = Needs(
        "class_logits",
        ("last",),
        views="shared",
        capabilities=frozenset({"trainable-parts", "own-optimiser"}),
        peers=1,
    )

    @dataclass(frozen=True)
    class Settings:
        """T is the paper's; the learning rate is our choice.

        Attributes:
            weight: of the term that must pass the critic. On digit-scenes with AdamW 1 keeps a student of eight layers
                from learning anything, as its critic is never fooled; 0.1 does not.
            temperature: T.
            critic_lr: learning rate of the critics' Adam, whose betas are 0.5 and 0.999.
        """

        weight: Annotated[float, Field(gt=0)] = searched(1.0, 0.01, 10.0)
        temperature: Annotated[float, Field(gt=0)] = searched(3.0, 1.0, 8.0)
        critic_lr: Annotated[float, Field(gt=0)] = 2e-4

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Critics judge maps of whole images."""
        from adm_core import align

        if len(student["prediction"]) != 2:
            return "the critics judge maps of images that have one label"
        return align.why_not_maps(("last",), student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The critic of each network, by role, and what brings its map to the other's width."""
        from torch import nn

        from adm_core import align

        one, two = facts.roles
        widths = {one: student["last"][1], two: teacher["last"][1]}
        other = {one: widths[two], two: widths[one]}
        adapters = {role: align.make_width_adapter(width, other[role], bias=False) for role, width in widths.items()}
        critics = {role: _critic(width) for role, width in other.items()}
        return {"critics": nn.ModuleDict(critics), "adapters": nn.ModuleDict(adapters)}

    def optimizers(self) -> Mapping[str, Adam]:
        """Adam for the critics."""
        return {"critics": Adam(self.settings.critic_lr, (0.5, 0.999))}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``mutual`` and ``adversarial`` of each network; the critics' own are named by its role."""
        from adm_core import align

        s, (one, two) = self.settings, step.views
        maps = dict(zip((one, two), align.match_size(*(v.features["last"] for v in step.views.values())), strict=True))
        terms: dict[str, dict[str, Tensor]] = {}
        critics: dict[str, Tensor] = {}
        for role, other in ((one, two), (two, one)):
            target = step.views[other].detached().prediction
            mutual = losses.logits.kl_divergence(step.views[role].prediction, target, s.temperature)
            passing, critics[role] = self._judge(role, maps[role], maps[other].detach())
            terms[role] = {"mutual": mutual, "adversarial": s.weight * passing}
        return replace(Losses.of_roles(terms), parts=critics)

    def _judge(self, role: str, own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """What a network and its critic minimise."""
        critic, adapted = self.parts["critics"][role], self.parts["adapters"][role](own)  # type: ignore[index]
        passing = (1 - constant(critic)(adapted)).pow(2).mean()
        telling = critic(adapted.detach()).pow(2).mean() + (1 - critic(other)).pow(2).mean()
        return passing, telling


def _critic(width: int) -> nn.Module:
    """[B, C, H, W] to a score [B, 1], near 1 where the map looks like the other network's."""
    from torch import nn

    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Conv2d(width, width, 3, stride=2, padding=1), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1))
