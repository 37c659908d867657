"""NORM: N-to-one representation matching (Liu, Li, Li, Yao; ICLR 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from adm_core.taps import Network

WEIGHTS = ((10 / 240, 0.1), (20 / 240, 0.5), (180 / 240, 1.0), (210 / 240, 0.5), (float("inf"), 0.1))
"""The share of training before which the term of features has a weight: the authors' epochs on CIFAR-100."""


@register
class NToOne(Method):
    """``task_weight · CE + weight · r Σ_n mean (E(F_s)_n - F_t)² + logit_weight · T² KL``: N matches of one map.

    E, a 1×1 convolution with batch norm, expands the student's last map to N groups as wide as the teacher's last map,
    each of which is to match it; R, another, brings them back, and ``F_s + R(E(F_s))`` is what the student's classifier
    reads the spatial mean of. Both layers stay in the deployed network. The larger map is max-pooled to the smaller
    one's size. All logits, the deployed network's too, are brought to mean 0 and deviation ``scale`` over classes.
    CE, and KL to the teacher's logits, are of what is deployed; the student's own logits lack the residual, so the task
    loss in the curves means nothing here, and ``kd`` beside it would teach what is not deployed: set ``logit_weight``.

    Doubts: formulas are those of the authors' code (github.com/OSVAI/NORM). So is r, which moves in steps over training
    (0.1, 0.5, 1, 0.5, 0.1); whether the paper tells it is not known to us. Their WRN has the layers before its last
    batch norm and ReLU, here they come after.
    """

    card = MethodCard(
        name="norm",
        title="Knowledge Distillation via N-to-One Representation Matching",
        paper="ICLR 2023, Liu et al.",
        year=2023,
        regimes=frozenset({"offline"}),
        family="features",
        deployed="the student with the residual layers before its classifier, logits normalised",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-100, who choose the task's weight for each pair from 0.0625 to 0.5.

        Attributes:
            groups: N.
            task_weight: of the cross-entropy.
            weight: of the sum over groups.
            logit_weight: of KD between normalised logits; above 0 it is the paper's NORM+KD.
            temperature: T, of the latter.
            scale: deviation of normalised logits.
        """

        groups: Annotated[int, Field(ge=1)] = 8
        task_weight: Annotated[float, Field(gt=0)] = searched(0.25, 0.0625, 0.5)
        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        logit_weight: Annotated[float, Field(ge=0)] = 0.0
        temperature: Annotated[float, Field(gt=0)] = 4.0
        scale: Annotated[float, Field(gt=0)] = 2.5

    needs = Needs("class_logits", ("last",), head=True, views="shared", capabilities=frozenset({"trainable-parts"}))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Last maps must be maps, and the student's classifier a linear layer on the mean of its own."""
        from adm_core import align

        if "head" not in student:
            return (
                "the student's classifier is no linear layer on the mean of its last map, before which NORM adds layers"
            )
        return align.why_not_maps(self.needs.taps, student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """E and R, whose weights begin as the authors' networks do."""
        from torch import nn

        from adm_core import align

        own, inner = student["last"][1], self.settings.groups * teacher["last"][1]
        parts = {"expand": align.make_projector(own, inner), "reduce": align.make_projector(inner, own)}
        for part in parts.values():
            nn.init.kaiming_normal_(part[0].weight, mode="fan_out", nonlinearity="relu")  # type: ignore[index]
        return parts

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``task``, ``features`` and ``logits``."""
        s, fixed, own = self.settings, teacher.detached(), student.features["last"]
        assert student.head is not None  # supports() asks for it
        expanded = self.parts["expand"](own)
        read = (own + self.parts["reduce"](expanded)).mean((2, 3))
        logits = losses.logits.layer_normalised(student.head(read), s.scale)
        terms = {"task": s.task_weight * losses.logits.cross_entropy(logits, step.target)}
        ramp = next(share for end, share in WEIGHTS if step.progress < end)
        terms["features"] = s.weight * ramp * losses.features.matched_groups(expanded, fixed.features["last"])
        if s.logit_weight:
            target = losses.logits.layer_normalised(fixed.prediction, s.scale)
            terms["logits"] = s.logit_weight * losses.logits.kl_divergence(logits, target, s.temperature)
        return Losses(student=terms, student_task=0.0)

    def deployed(self, networks: Mapping[str, Network]) -> nn.Module:
        """The student with both layers, and its own classifier after them."""
        from adm_core.reuse import NormalisedClassifier, Residual, ReusedClassifier

        head = networks["student"].classifier()
        assert head is not None  # supports() asks for it
        residual = Residual(self.parts["expand"], self.parts["reduce"])
        return ReusedClassifier(networks["student"], residual, NormalisedClassifier(head, self.settings.scale))
