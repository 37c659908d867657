"""L-MCL without its learnt weights: MCL of networks whose stages have classifiers, gathered into one (2207.11518)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.card import ALL_STAGES, members
from adm_core.method import Facts, Losses, MethodCard, Needs, Shapes, Step, View
from adm_core.methods.mcl import MCL
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor, nn


@register
class LayerwiseMCLLite(MCL):
    """Each network i: MCL's loss + ``Σ_k CE(z_ik) + CE(z_i*) + kd Σ_j T² KL(p_j* || p_i)`` (Yang et al., 2207.11518).

    z_ik [B, K] are the logits of auxiliary classifiers on every stage but the last, ``z_i* = Σ_k a_k z_ik`` with those
    of the network itself among the k, and a [B, stages] the softmax of a linear, a ReLU and a linear layer on all that
    the classifiers read, concatenated. The sum over j is over all networks, i itself among them; p_j* is constant.
    All terms of MCL are those of its own page. Auxiliary classifiers are left behind after training.

    Verified (authors' code, winycg/L-MCL at 2c0901e): these terms. Left out: the contrast of every stage of one network
    with every stage of the others, weighted by a network that is trained by meta-gradients; the last stages alone are
    contrasted, with weight 1 (the authors count a pair twice, with weights between 0.27 and 0.73). Ours: an auxiliary
    classifier has one 3×3 convolution for each stage that follows its own, where the authors' repeat the network's
    blocks. They report the best stage of the best network at its best epoch; here each network is scored as it is at
    the end, the first one being deployed.
    """

    card = MethodCard(
        name="l-mcl-lite",
        title="Layer-wise Mutual Contrastive Learning, without learnt weights",
        paper="arXiv:2207.11518",
        year=2023,
        regimes=frozenset({"online", "peers"}),
        family="relations",
    )

    @dataclass(frozen=True)
    class Settings(MCL.Settings):
        """Defaults are the authors' on CIFAR-100, as MCL's are.

        Attributes:
            kd: weight of the divergences from the gathered logits, whose T is ``temperature``.
        """

        temperature: Annotated[float, Field(gt=0)] = searched(
            3.0, 1.0, 8.0, acts=lambda s, _: s.soft_vcl > 0 or s.soft_icl > 0 or s.kd > 0
        )
        kd: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """MCL's, and all stages."""
        needs = super().needs
        return replace(needs, taps=(*needs.taps, ALL_STAGES))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Auxiliary classifiers read maps."""
        from adm_core import align

        return super().supports(student, teacher, regime) or align.why_not_maps((ALL_STAGES,), student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """MCL's heads, and of every network, by role, its auxiliary classifiers and what weighs their logits."""
        from torch import nn

        from adm_core.classifiers import auxiliary_classifier

        built = super().build(student, teacher, facts)
        for role in facts.roles:
            shapes = student if role == "student" else teacher
            stages, classes = [shapes[tap] for tap in members((ALL_STAGES,), shapes)], shapes["prediction"][1]
            each = [auxiliary_classifier(stages[place:], classes) for place in range(len(stages) - 1)]
            width = shapes["penultimate"][1]
            linear = nn.Linear(len(each) * stages[-1][1] + width, width)
            built[f"gathering_{role}"] = nn.Sequential(linear, nn.ReLU(), nn.Linear(width, len(stages)))
            built[f"bodies_{role}"] = nn.ModuleList(classifier[:-1] for classifier in each)
            built[f"auxiliary_{role}"] = nn.ModuleList(classifier[-1] for classifier in each)
        return built

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """MCL's terms, and ``auxiliary`` and ``gathered`` (CE) and ``kd`` of every network."""
        import torch

        s, ce, kl = self.settings, losses.logits.cross_entropy, losses.logits.kl_divergence
        terms, target = self.contrasts(step), step.target
        shown = {role: self._gathered(role, view) for role, view in step.views.items()}
        fixed = [gathered.detach() for _, gathered in shown.values()]
        for role, (auxiliary, gathered) in shown.items():
            own = step.views[role].prediction
            terms[role] |= {
                "auxiliary": torch.stack([ce(z, target) for z in auxiliary]).sum(),
                "gathered": ce(gathered, target),
                "kd": s.kd * torch.stack([kl(own, z, s.temperature) for z in fixed]).sum(),
            }
        return Losses.of_roles(terms)

    def _gathered(self, role: str, view: View) -> tuple[list[Tensor], Tensor]:
        """Logits of a network's auxiliary classifiers, and the gathered ones."""
        import torch

        bodies: nn.ModuleList = self.parts[f"bodies_{role}"]  # type: ignore[assignment]
        classifiers: nn.ModuleList = self.parts[f"auxiliary_{role}"]  # type: ignore[assignment]
        read = [body(features) for body, features in zip(bodies, view.maps((ALL_STAGES,))[:-1], strict=True)]
        logits = [classifier(vector) for classifier, vector in zip(classifiers, read, strict=True)]
        weights = self.parts[f"gathering_{role}"](torch.cat([*read, view.features["penultimate"]], 1)).softmax(1)
        return logits, losses.logits.gated_ensemble(torch.stack([*logits, view.prediction]), weights)
