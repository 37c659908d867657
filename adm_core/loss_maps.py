"""A network's losses at every position, [B, H, W], for methods that weight positions."""

from __future__ import annotations

from torch import Tensor

from adm_core import align, losses
from adm_core.view import View


def distillation(student: View, teacher: View) -> Tensor:
    """How far the student is from the teacher: KL(teacher || student), the mean squared error of denoisers.

    An image classifier's predictions at positions are the class responses of its last stage.
    """
    if student.kind == "denoiser":
        return (student.prediction - teacher.prediction).pow(2).mean(1)
    own, other = student.prediction, teacher.prediction
    if own.dim() == 2:
        a, b = align.match_size(student.features["last"], teacher.features["last"])
        own, other = align.class_response(a, student.head), align.class_response(b, teacher.head).detach()
    return losses.logits.kl_map(own, other)


def task(view: View, target: Tensor) -> Tensor:
    """The network's task loss: as the task has it, or an image classifier's cross-entropy by its class responses."""
    if view.prediction.dim() > 2:
        return view.task_loss
    return losses.logits.dense_cross_entropy(align.class_response(view.features["last"], view.head), target)
