"""DCM: every classifier of one network, auxiliary ones included, learns from all of another's (arXiv:2008.07816)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.card import ALL_STAGES, members
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor, nn


@register
class DCM(Method):
    """Each of two networks: ``Σ_i CE(z_i) + weight · Σ_ij T² KL(p_j of the other || p_i)`` (arXiv:2008.07816).

    z_i [B, K] are the logits of auxiliary classifiers on every stage but the last and those of the network itself; the
    other network's p_j are constants. Auxiliary classifiers are left behind after training.

    A doubt: an auxiliary classifier here has, for every stage that follows its own, one 3×3 convolution of that stage's
    width and stride, batch norm and ReLU, then a linear layer on the mean. It so goes from fine to coarse as its
    network does, which the paper asks for. The authors' have residual blocks there, and one is twice as wide.
    """

    card = MethodCard(
        name="dcm",
        title="Dense Cross-layer Mutual-distillation",
        paper="arXiv:2008.07816",
        year=2020,
        regimes=frozenset({"online", "peers"}),
        family="logits",
    )
    needs = Needs("class_logits", (ALL_STAGES,), capabilities=frozenset({"trainable-parts"}), peers=1)

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors': every weight 1, T = 1.

        Attributes:
            weight: of the sum of divergences.
            temperature: T.
        """

        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        temperature: Annotated[float, Field(gt=0)] = searched(1.0, 1.0, 8.0)

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Auxiliary classifiers read maps, and give one prediction for each example."""
        from adm_core import align

        if len(student["prediction"]) != 2:
            return "DCM's auxiliary classifiers give one prediction for each example"
        return align.why_not_maps((ALL_STAGES,), student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The auxiliary classifiers of every network, by role, in the order of the stages."""
        from torch import nn

        from adm_core.classifiers import auxiliary_classifier

        built: dict[str, nn.Module] = {}
        for role in facts.roles:
            shapes = student if role == "student" else teacher
            stages, classes = [shapes[tap] for tap in members((ALL_STAGES,), shapes)], shapes["prediction"][1]
            each = (auxiliary_classifier(stages[place:], classes) for place in range(len(stages) - 1))
            built[f"auxiliary_{role}"] = nn.ModuleList(each)
        return built

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``auxiliary`` (CE) and ``mutual`` of each network."""
        import torch

        s, ce, kl = self.settings, losses.logits.cross_entropy, losses.logits.kl_divergence
        logits, terms = {role: self._logits(role, view) for role, view in step.views.items()}, {}
        for role, own in logits.items():
            others = [z.detach() for name, each in logits.items() if name != role for z in each]
            auxiliary = torch.stack([ce(z, step.target) for z in own[:-1]]).sum()
            mutual = torch.stack([kl(z, target, s.temperature) for z in own for target in others]).sum()
            terms[role] = {"auxiliary": auxiliary, "mutual": s.weight * mutual}
        return Losses.of_roles(terms)

    def _logits(self, role: str, view: View) -> list[Tensor]:
        """Those of a network's auxiliary classifiers, then its own."""
        classifiers: nn.ModuleList = self.parts[f"auxiliary_{role}"]  # type: ignore[assignment]
        maps = view.maps((ALL_STAGES,))[:-1]
        return [*(c(features) for c, features in zip(classifiers, maps, strict=True)), view.prediction]
