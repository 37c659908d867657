"""Hinge losses of a critic that tells the student's predictions from the teacher's (Lim & Ye, arXiv:1705.02894)."""

from __future__ import annotations

from torch import Tensor

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


def _mean(scores: Tensor, counts: Tensor | None) -> Tensor:
    return masked_mean(scores, None if counts is None else counts[:, None, None].expand_as(scores))


def reversed_gradient(value: Tensor, strength: float) -> Tensor:
    """The value itself; its gradient is multiplied by ``-strength``, so that what descends a loss lets it ascend."""
    still = value.detach()
    return still - strength * (value - still)
