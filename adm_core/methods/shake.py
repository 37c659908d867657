"""SHAKE: a shadow of the frozen teacher, which learns from the student as well, teaches it (Li & Jin, NeurIPS 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from adm_core import losses
from adm_core.card import ALL_STAGES, members
from adm_core.method import Facts, Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adm_core.taps import Network


@register
class Shake(Method):
    """Student: ``CE(z) + w T² KL(p_h || p)``; its shadow h: ``w (T² KL(p || p_h) + CE(z_h) + mean (z_h - z_t)²)``.

    (Li & Jin, NeurIPS 2022, as in the authors' code.) The shadow's logits are those of the teacher's own classifier on
    the mean of a map that trained convolutions make of the teacher's stages F_1 ... F_n: ``x_1 = F_1``, then
    ``x_i = D(x_(i-1)) + S(F_i)``, D of 3×3 and the stride between the stages, S of 1×1, and a last one of 3×3, each
    with batch norm and ReLU. The first argument of a KL is constant. All logits are standardised over the classes and
    multiplied by ``scale``, in CE and in what is deployed as well; that moves calibration and no accuracy.
    """

    card = MethodCard(
        name="shake",
        title="Shadow Knowledge Distillation",
        paper="NeurIPS 2022, Li and Jin",
        year=2022,
        regimes=frozenset({"offline"}),
        family="logits",
        deployed="the student with standardised logits",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-100, where the teacher itself has no weight beside its shadow.

        Attributes:
            weight: β, of all that involves the shadow.
            temperature: T.
            scale: of standardised logits.
        """

        weight: Annotated[float, Field(gt=0)] = searched(1.0, 0.1, 10.0)
        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0)
        scale: Annotated[float, Field(gt=0)] = 3.1415

    needs = Needs("class_logits", (ALL_STAGES,), head=True, capabilities=frozenset({"trainable-parts"}))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """The teacher's stages must be maps, the mean of the last of which a linear classifier reads."""
        from adm_core import align

        if "head" not in teacher or len(teacher["prediction"]) != 2:
            return "the teacher's classifier is no linear layer on the mean of its last map, as its shadow uses"
        return align.why_not_maps((ALL_STAGES,), student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The shadow's convolutions: down from stage to stage, sideways from each but the first, and the last one."""
        from torch import nn

        stages = [teacher[tap] for tap in members((ALL_STAGES,), teacher)]
        down = (_convolution(a[1], b[1], 3, ceil(a[2] / b[2])) for a, b in pairwise(stages))
        side = (_convolution(stage[1], stage[1], 1) for stage in stages[1:])
        width = stages[-1][1]
        norm = nn.LayerNorm(teacher["prediction"][1], eps=1e-7, bias=False).requires_grad_(False)
        norm.weight.fill_(self.settings.scale)
        last = _convolution(width, width, 3)
        return {"down": nn.ModuleList(down), "side": nn.ModuleList(side), "last": last, "standardise": norm}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``standardised`` (CE) and ``shadow``; the shadow's own ``student``, ``labels`` and ``teacher``."""
        s, ce, kl = self.settings, losses.logits.cross_entropy, losses.logits.kl_divergence
        target, norm = teacher.detached(), self.parts["standardise"]
        assert target.head is not None  # supports() asks for it
        shadow = norm(target.head(self._shadow(target)))
        own, theirs = norm(student.prediction), norm(target.prediction)
        to_student = kl(own, shadow.detach(), s.temperature)
        parts = {
            "student": kl(shadow, own.detach(), s.temperature),
            "labels": ce(shadow, step.target),
            "teacher": (shadow - theirs).pow(2).mean(),
        }
        return Losses(
            student={"standardised": ce(own, step.target), "shadow": s.weight * to_student},
            parts={name: s.weight * term for name, term in parts.items()},
            student_task=0.0,
        )

    def _shadow(self, teacher: View) -> Tensor:
        """What the shadow's classifier reads, [B, C]."""
        first, *others = teacher.maps((ALL_STAGES,))
        x, down, side = first, self.parts["down"], self.parts["side"]
        for onward, sideways, features in zip(down, side, others, strict=True):  # type: ignore[call-overload]
            x = onward(x) + sideways(features)
        return self.parts["last"](x).mean((2, 3))  # type: ignore[no-any-return]

    def deployed(self, networks: Mapping[str, Network]) -> nn.Module:
        """The student before the standardisation of its logits."""
        from torch import nn

        return nn.Sequential(networks["student"].module, self.parts["standardise"])


def _convolution(width: int, after: int, side: int, stride: int = 1) -> nn.Module:
    from torch import nn

    convolution = nn.Conv2d(width, after, side, stride, padding=side // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())
