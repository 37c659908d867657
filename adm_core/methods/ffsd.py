"""FFSD: peers that look elsewhere than each other, and a leader that learns from their fusion (arXiv:2103.14473)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field

from adm_core import losses
from adm_core.card import ALL_STAGES, members
from adm_core.method import Adam, Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import nn

    from adm_core.decoder import StageDecoder


@register
class FFSD(Method):
    """Student, the leader: ``CE + T² KL(p_f || p) + w_f (AT(F, F_f) + AT(E(F), G) + Σ AT(F_s, D(F_f)_s))``.

    (Li et al., arXiv:2103.14473.) F are last maps [B, C, H, W], AT is the mean squared difference of attention maps,
    sums are over all stages s but the last. The fusion of the peers' concatenated maps, a constant G, gives F_f and z_f
    by ``CE(z_f) + T² KL(p_mean || p_f)``. E is a block to the width of G. Peer i has ``CE + T² mean_j KL(p_j || p_i)``
    and, but for the first, w_d times :func:`adm_core.losses.diversity.diversity` from the peer before it. Decoders D,
    back through the stages, minimise w_s times :func:`adm_core.losses.diversity.decoding_error` on their network's
    maps. Targets are constants, those decoded by running statistics. All w rise by exp(-5 (1 - t / ramp)²). What is
    left is the leader.

    Verified (SJLeo/FFSD at 7038db8): all terms and weights. Doubts: decoded maps are as wide as the network's stages,
    in the code each half as wide as the one after; the fusion joins the networks' optimiser, in the code it has ten
    times less weight decay. The code prints the leader's best epoch.
    """

    card = MethodCard(
        name="ffsd",
        title="Feature Fusion and Self-Distillation",
        paper="arXiv:2103.14473",
        year=2022,
        regimes=frozenset({"peers"}),
        family="features",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-100: two peers and a leader, T = 2, ramp of 5 of 300 epochs.

        Attributes:
            temperature: T.
            diversity: w_d.
            fusion: w_f.
            decoding: w_s.
            ramp: share of training over which these rise.
            networks: in all, the leader included.
        """

        temperature: Annotated[float, Field(gt=0)] = searched(2.0, 1.0, 8.0)
        diversity: Annotated[float, Field(ge=0)] = searched(1e-5, 1e-6, 1e-3)
        fusion: Annotated[float, Field(ge=0)] = searched(10.0, 1.0, 100.0)
        decoding: Annotated[float, Field(gt=0)] = 1000.0
        ramp: Annotated[float, Field(ge=0, le=1)] = 1 / 60
        networks: Annotated[int, Field(ge=3)] = 3

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """All stages of a leader and two peers or more."""
        parts, peers = frozenset({"trainable-parts", "own-optimiser"}), self.settings.networks - 1
        return Needs("class_logits", (ALL_STAGES,), capabilities=parts, peers=peers)

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Maps of two stages at least, of images that have one label."""
        from adm_core import align

        if len(student["prediction"]) != 2 or len(members((ALL_STAGES,), student)) < 2:
            return "FFSD fuses maps to one prediction per example, and decodes stages before the last"
        return align.why_not_maps((ALL_STAGES,), student, student)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """Fusion, its classifier, E, and by role the decoders of all networks but the first peer."""
        from torch import nn

        from adm_core.classifiers import pooled_classifier, separable_block
        from adm_core.decoder import StageDecoder

        stages = [student[tap] for tap in members((ALL_STAGES,), student)]
        width, whole = stages[-1][1], stages[-1][1] * (len(facts.roles) - 1)
        parts = {"fusion": separable_block(whole, width), "expansion": separable_block(width, whole)}
        parts["classifier"] = pooled_classifier(width, student["prediction"][1])
        decoders = {role: StageDecoder(stages) for role in facts.roles if role != "peer1"}
        return {**parts, "decoders": nn.ModuleDict(decoders)}

    def optimizers(self) -> Mapping[str, Adam]:
        """The authors' Adam for the decoders."""
        return {"decoders": Adam(1e-3)}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``fusion`` and ``attention`` of the leader, ``mutual`` and ``diversity`` of peers.

        Of the parts ``labels`` (CE) and ``ensemble``, which are the fusion's, and ``decoders``.
        """
        import torch

        s, at, kl = self.settings, losses.features.attention_transfer, losses.logits.kl_divergence
        w, decoders = step.consistency_ramp(s.ramp), cast("Mapping[str, StageDecoder]", self.parts["decoders"])
        maps = {role: view.maps((ALL_STAGES,)) for role, view in step.views.items()}
        peers = {role: view.prediction for role, view in step.views.items() if role != "student"}
        terms = {}
        for role, own in peers.items():
            each = [kl(own, other.detach(), s.temperature) for r, other in peers.items() if r != role]
            terms[role] = {"mutual": torch.stack(each).mean()}
        for before, role in pairwise(peers):
            apart = losses.diversity.diversity(maps[role], maps[before][-1].detach(), decoders[role].targets)
            terms[role]["diversity"] = s.diversity * w * apart
        together, leader = torch.cat([maps[role][-1] for role in peers], 1).detach(), maps["student"]
        fused = self.parts["fusion"](together)
        logits, fixed = self.parts["classifier"](fused), fused.detach()
        near = at(leader[-1], fixed) + at(self.parts["expansion"](leader[-1]), together)
        near = near + losses.diversity.stage_attention(leader, decoders["student"].targets(fixed, leader))
        to_leader = kl(student.prediction, logits.detach(), s.temperature)
        terms["student"] = {"fusion": to_leader, "attention": s.fusion * w * near}
        constant = {role: [stage.detach() for stage in maps[role]] for role in decoders}
        errors = [losses.diversity.decoding_error(decoders[role](m[-1], m), m) for role, m in constant.items()]
        parts = {
            "labels": losses.logits.cross_entropy(logits, step.target),
            "ensemble": kl(logits, torch.stack(list(peers.values())).mean(0).detach(), s.temperature),
            "decoders": s.decoding * w * torch.stack(errors).sum(),
        }
        return replace(Losses.of_roles(terms), parts=parts)
