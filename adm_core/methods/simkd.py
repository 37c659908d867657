"""SimKD: reuse the teacher's classifier (Chen et al., arXiv:2203.14001, CVPR 2022)."""

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


@register
class SimKD(Method):
    """``mean (P(F_s) - F_t)²`` on the last maps alone; what is deployed ends with the teacher's own classifier.

    (arXiv:2203.14001, eq. 3.) F_s [B, C_s, H, W] and F_t [B, C_t, H, W] are average-pooled to the smaller height and
    width; the projector P is a bottleneck of width C_t / factor, 1×1, 3×3 and 1×1 convolutions, each with batch norm
    and ReLU. Labels are not used: the weight of the task loss is zero. The prediction is the teacher's classifier on
    the spatial mean of P(F_s); the student's own classifier is left behind. The task loss in the curves is that of
    the latter and means nothing here.
    """

    card = MethodCard(
        name="simkd",
        title="Simple Knowledge Distillation with the reused teacher classifier",
        paper="arXiv:2203.14001",
        year=2022,
        regimes=frozenset({"offline"}),
        family="features",
        deployed="the student up to its last map, the projector and the teacher's classifier",
    )

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors'.

        Attributes:
            factor: by how much the projector's inner width is smaller than the teacher's.
            weight: of the squared error.
        """

        factor: Annotated[int, Field(ge=1)] = 2
        weight: Annotated[float, Field(gt=0)] = searched(1.0, 0.1, 10.0)

    needs = Needs("class_logits", taps=("last",), views="shared", capabilities=frozenset({"trainable-parts"}))

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Both classifiers must be linear layers on the spatial mean of the last map."""
        from adm_core.reuse import why_not_reused

        reason, factor = why_not_reused(student, teacher), self.settings.factor
        if reason is None and teacher["last"][1] < factor:
            reason = f"the teacher's last map has {teacher['last'][1]} channels, too few for factor {factor}"
        return reason

    def build(self, student: Shapes, teacher: Shapes, facts: Facts) -> dict[str, nn.Module]:
        """The projector, which pools a student's map that is larger than the teacher's first."""
        from torch import nn

        from adm_core.align import MapPool

        (c_s, h_s, w_s), (c_t, h_t, w_t) = student["last"][1:], teacher["last"][1:]
        inner, smaller = c_t // self.settings.factor, (min(h_s, h_t), min(w_s, w_t))
        layers: list[nn.Module] = [] if (h_s, w_s) == smaller else [MapPool(smaller)]
        for inputs, outputs, kernel in ((c_s, inner, 1), (inner, inner, 3), (inner, c_t, 1)):
            convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
        return {"projector": nn.Sequential(*layers)}

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``last``."""
        from adm_core import align

        projected = self.parts["projector"](student.features["last"])
        ours, theirs = align.match_size(projected, teacher.detached().features["last"])
        error = losses.spatial.masked_mean((ours - theirs).pow(2).mean(1), step.mask)
        return Losses(student={"last": self.settings.weight * error}, student_task=0.0)

    def deployed(self, networks: Mapping[str, Network]) -> nn.Module:
        """The student's last map, projected, before the teacher's classifier."""
        from adm_core.reuse import ReusedClassifier

        head = networks["teacher"].classifier()
        assert head is not None  # supports() asks for it
        return ReusedClassifier(networks["student"], self.parts["projector"], head)
