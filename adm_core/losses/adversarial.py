"""Losses of a critic and of a student that is to pass before it: hinge (Lim & Ye, arXiv:1705.02894) and logistic."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

from adm_core.losses.spatial import masked_mean


def critic_hinge(on_student: Tensor, on_teacher: Tensor, counts: Tensor | None = None) -> Tensor:
    """``mean max(0, 1 - D(teacher)) + mean max(0, 1 + D(student))``: what the critic minimises.

    Args:
        on_student: the critic's scores [B, H, W] of the student's predictions.
        on_teacher: of the teacher's.
        counts: bool [B], which examples count; None: all.
    """
    return _mean((1 - on_teacher).relu(), counts) + _mean((1 + on_student).relu(), counts)


def student_hinge(on_student: Tensor, counts: Tensor | None = None) -> Tensor:
    """``- mean D(student)``: what the student minimises to pass for the teacher.

    Args:
        on_student: scores [B, H, W], of a critic whose weights are constants here.
        counts: bool [B], which examples count; None: all.
    """
    return -_mean(on_student, counts)


def critic_logistic(on_student: Tensor, on_data: Tensor) -> Tensor:
    """``mean softplus(D(student)) + mean softplus(-D(data))`` (Goodfellow et al., arXiv:1406.2661): the critic's.

    Args:
        on_student: the critic's scores of what the student makes, of any shape.
        on_data: of data.
    """
    return softplus(on_student).mean() + softplus(-on_data).mean()


def student_logistic(on_student: Tensor) -> Tensor:
    """``mean softplus(-D(student))``: what the student minimises to pass for data, the form that does not saturate."""
    return softplus(-on_student).mean()


def _mean(scores: Tensor, counts: Tensor | None) -> Tensor:
    return masked_mean(scores, None if counts is None else counts[:, None, None].expand_as(scores))


def reversed_gradient(value: Tensor, strength: float) -> Tensor:
    """The value itself; its gradient is multiplied by ``-strength``, so that what descends a loss lets it ascend."""
    still = value.detach()
    return still - strength * (value - still)
