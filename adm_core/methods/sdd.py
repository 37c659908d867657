"""SDD: logits of parts of an image, each by the network's own classifier (Wei, Luo, Luo; arXiv:2403.13512)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Shapes, Step, View
from adm_core.registry import register
from adm_core.settings import searched

if TYPE_CHECKING:
    from torch import Tensor


@register
class SDD(Method):
    """``task_weight · CE + ramp · weight · mean w L(z_s, z_t)`` over cells and examples (arXiv:2403.13512).

    The last map is pooled to 1×1, 2×2, ... cells, and each network's own classifier predicts from every cell. L is a
    loss of logits: KD's, ``T² KL``, or DKD's, ``alpha · TCKD + beta · NCKD``. w is 2 where the teacher is right on the
    whole image and wrong on the cell, or the reverse, and 1 elsewhere; weights are not normalised. With one cell it is
    the loss of plain logits. The authors' third form, on NKD, is not here; their code sets a loss that is not finite
    to zero, which this does not, and pools coarse cells from the finest, which is the same where the map's side is a
    multiple of theirs.
    """

    card = MethodCard(
        name="sdd",
        title="Scale Decoupled Distillation",
        paper="arXiv:2403.13512",
        year=2024,
        regimes=frozenset({"offline"}),
        family="logits",
    )
    needs = Needs(prediction="class_logits", taps=("last",), head=True)

    @dataclass(frozen=True)
    class Settings:
        """Defaults are the authors' SD-DKD on CIFAR-100, resnet32x4 > resnet8x4; beta is 2 or 6 on other pairs.

        Attributes:
            base: L. With ``kd`` the authors set weight 0.9, task_weight 0.1 and no warm-up.
            cells: cells a side; the authors add 4 where the student is a ShuffleNet or MobileNetV2.
            weight: of all cells.
            task_weight: of the cross-entropy.
            temperature: T.
            alpha: DKD's, of the target class.
            beta: DKD's, of the other classes.
            warmup: share of training in which the loss rises to its full weight; 20 of 240 epochs.
        """

        base: Literal["kd", "dkd"] = "dkd"
        cells: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2)
        weight: Annotated[float, Field(ge=0)] = searched(1.0, 0.1, 10.0)
        task_weight: Annotated[float, Field(ge=0)] = 1.0
        temperature: Annotated[float, Field(gt=0)] = searched(4.0, 1.0, 8.0)
        alpha: Annotated[float, Field(ge=0)] = 1.0
        beta: Annotated[float, Field(ge=0)] = 8.0
        warmup: Annotated[float, Field(ge=0, le=1)] = 20 / 240

    def supports(self, student: Shapes, teacher: Shapes, regime: str) -> str | None:
        """Both classifiers must be linear layers on the spatial mean of a last map that has enough positions."""
        most = max(self.settings.cells)
        for network, shapes in (("student", student), ("teacher", teacher)):
            if "head" not in shapes or len(shapes["last"]) != 4 or len(shapes["prediction"]) != 2:
                return f"the {network}'s classifier is no linear layer on the mean of its last map"
            if min(shapes["last"][2:]) < most:
                return f"the {network}'s last map is smaller than {most}×{most} cells"
        return None

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """One term, ``cells``."""
        from adm_core import align

        s, target = self.settings, step.target[:, None]
        own, other = (
            align.class_response(losses.spatial.pooled_cells(view.features["last"], s.cells), view.head).squeeze(3)
            for view in (student, teacher.detached())
        )
        whole = teacher.prediction.argmax(1, keepdim=True) == target
        weight = 1.0 + ((other.argmax(1) == target) != whole)
        each = weight * self._base(own, other, target.expand(-1, own.shape[2]))
        term = step.ramp(s.warmup) * s.weight * each.mean()
        return Losses(student={"cells": term}, student_task=s.task_weight)

    def _base(self, own: Tensor, other: Tensor, target: Tensor) -> Tensor:
        """L of logits [B, K, cells]: [B, cells]."""
        s = self.settings
        if s.base == "kd":
            return losses.logits.kl_map(own, other, s.temperature)
        return losses.partitions.decoupled_map(own, other, target, s.alpha, s.beta, s.temperature)
