"""Features held against directions: those of class means, and those along which a map varies most."""

from __future__ import annotations

import torch
from torch import Tensor

from adm_core.losses.features import unit
from adm_core.losses.spatial import at_size, masked_mean


def norm_and_direction(
    student: Tensor, teacher: Tensor, centres: Tensor, target: Tensor, mask: Tensor | None = None
) -> Tensor:
    """``1 - <f_s, c_y / |c_y|> / max(|f_s|, |f_t|)``, mean over examples (and valid positions) (arXiv:2305.17007).

    Zero where the student's vector points to its class's mean and is at least as long as the teacher's.

    Args:
        student: vectors [B, C] or maps [B, C, H, W].
        teacher: of the same shape, used as a constant.
        centres: c, the mean of each class [K, C]; one of zeros has no direction, and teaches nothing.
        target: class indices [B], or [B, ., .] of any size, read at the positions of the maps.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    if student.dim() == 4:
        target = at_size(target, student.shape[2:])
    direction = unit(centres)[target].movedim(-1, 1)
    own, other = (torch.linalg.vector_norm(vectors, dim=1) for vectors in (student, teacher.detach()))
    along = (student * direction).sum(1)
    return masked_mean(1 - along / torch.maximum(own, other).clamp_min(1e-6), mask)
