"""OFA: branches turn each stage into logits, so any two architectures compare (Hao et al., arXiv:2310.19444)."""

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
    from torch import nn


@register
class OneForAll(Method):
    """``weight · Σ_l L(z_l, z_t) + logit_weight · L(z_s, z_t)``, ``L = -Σ_c ((p_t + 1_y)_c^ε - 1_y) log p_c``.

    z_l are logits of the student's stage l, by a branch of its own: a separable convolution of stride 2 for every stage
    that is still to come (of the last stage a 1×1 convolution) and a linear classifier on the mean over positions. With
    ε > 1 the target's class weighs more than the teacher's probability of it, with ε = 1 L is the cross-entropy of KD
    at temperature 1 (arXiv:2310.19444, section 3). Feature maps are not compared, so the networks may be of any two
    kinds. Of dense predictions the classifier stands at every position, and coarse logits are interpolated (a
    reconstruction: the paper has classification alone). Branches are those for convolutional students; those for
    transformers, of patch merging and attention, are not here.
    """

    card = MethodCard(
        name="ofa",
        title="One-for-All Knowledge Distillation between heterogeneous architectures",
        paper="arXiv:2310.19444",
        year=2023,
        regimes=frozenset({"offline"}),
        family="logits",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' on CIFAR-100; on ImageNet the exponent is up to 1.5.

        Attributes:
            taps: the student's stages; both networks need them.
            exponent: ε.
            weight: of the sum over branches.
            logit_weight: of the student's own logits; 0 leaves the term out.
        """

        taps: tuple[str, ...] = (ALL_STAGES,)
        exponent: Annotated[float, Field(ge=1)] = searched(1.0, 1.0, 1.5)
        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        logit_weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Feature maps of the student's stages, and logits."""
        return Needs("class_logits", taps=tuple(self.settings.taps), capabilities=frozenset({"trainable-parts"}))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Every tap must be a spatial map."""
        from adm_core import align

        return align.why_not_maps(self.settings.taps, student, teacher)

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """A branch for each stage, as wide at its end as the wider network's last stage."""
        from torch import nn

        taps, classes = members(self.settings.taps, student), student["prediction"][1]
        wide = max(student[taps[-1]][1], teacher[taps[-1]][1])
        to_come = reversed(range(len(taps)))
        branches = (_branch(student[tap][1], wide, classes, left) for tap, left in zip(taps, to_come, strict=True))
        return {"branches": nn.ModuleList(branches)}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """Terms ``branches``, their sum, and ``logits``."""
        from adm_core import align

        s, target, total = self.settings, teacher.detached().prediction, student.prediction.new_zeros(())
        pairs = zip(self.parts["branches"], student.maps(s.taps), strict=True)  # type: ignore[call-overload]
        for branch, features in pairs:
            logits = branch(features)
            logits = logits.mean((2, 3)) if target.dim() == 2 else logits
            ours, theirs = align.match_predictions(logits, target)
            total = total + losses.logits.target_enhanced(ours, theirs, step.target, s.exponent, step.mask)
        terms = {"branches": s.weight * total}
        if s.logit_weight:
            own = losses.logits.target_enhanced(student.prediction, target, step.target, s.exponent, step.mask)
            terms["logits"] = s.logit_weight * own
        return Losses(student=terms)


def _branch(own: int, wide: int, classes: int, to_come: int) -> nn.Module:
    """Channels ``own`` doubled by each convolution but the last, which makes ``wide``, and a classifier."""
    from torch import nn

    layers: list[nn.Module] = [] if to_come else [nn.Conv2d(own, wide, 1)]
    for left in reversed(range(to_come)):
        after = 2 * own if left else wide
        for stride, outputs in ((2, own), (1, after)):
            depthwise = nn.Conv2d(own, own, 3, stride, padding=1, groups=own, bias=False)
            layers += [depthwise, nn.Conv2d(own, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        own = after
    for convolution in (layer for layer in layers if isinstance(layer, nn.Conv2d)):
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    classifier = nn.Conv2d(wide, classes, 1)  # linear, so the mean over positions may come after it
    nn.init.trunc_normal_(classifier.weight, std=0.02)
    return nn.Sequential(*layers, classifier)
