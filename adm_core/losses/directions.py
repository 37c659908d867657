"""Features held against directions: those of class means, and those along which a map varies most."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from adm_core.losses.features import unit
from adm_core.losses.spatial import at_size, masked_mean

CLOSE = 1e-3
"""Share of the largest eigenvalue by which two must differ, that one's direction may turn towards the other's."""
CANDIDATES = 4
"""The student's directions of which that nearest to the teacher's first is compared with it."""


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


def main_directions(maps: Tensor, count: int, mask: Tensor | None = None) -> Tensor:
    """Right singular vectors of each image's [HW, C] matrix, of the largest singular values last: [B, C, count].

    Signs are arbitrary. The gradient is that of the singular vectors, but for pairs of nearly equal singular values,
    between which directions are not determined: they do not turn towards each other. There are fewer than ``count``
    where C or HW is smaller.

    Args:
        maps: [B, C, H, W].
        count: how many, at least 1.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    if mask is not None:
        maps = maps.masked_fill(~at_size(mask, maps.shape[2:])[:, None], 0.0)
    flat = maps.flatten(2)
    if flat.shape[2] >= flat.shape[1]:
        return _eigenvectors(flat @ flat.transpose(1, 2), count)
    # Of the smaller matrix; each of its vectors is a weighting of positions.
    return unit(flat @ _eigenvectors(flat.transpose(1, 2) @ flat, count), dim=1)


def _eigenvectors(matrix: Tensor, count: int) -> Tensor:
    """Those of symmetric matrices [B, N, N] with the largest eigenvalues, in ascending order, [B, N, count]."""
    values, vectors = torch.linalg.eigh(matrix.detach())
    top = vectors[..., -count:]
    gap = values[:, None, -count:] - values[:, :, None]
    turns = gap.abs() > CLOSE * values[:, -1:, None]
    # To first order a vector moves by its matrix's change seen from each other one, divided by the gap between them.
    seen = vectors.transpose(1, 2) @ (matrix - matrix.detach()) @ top
    turned: Tensor = top + vectors @ torch.where(turns, seen / torch.where(turns, gap, 1.0), 0.0)
    return turned


def singular_relations(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
    """``Σ_l Σ_ij (K_s^l - K_t^l)²_ij``, ``K^l_ij = exp(-(v^l_i - v^(l-1)_j)² / 8)``; mean over valid images.

    v^l [C] is the teacher's :func:`main_directions` of stage l with the largest singular value, its sign such that
    the sum is not negative; the student's is that of its :data:`CANDIDATES` first which makes the smallest angle with
    it, its sign so that the angle is not obtuse (Lee et al., arXiv:1807.06819, in the form of RepDistiller).

    Args:
        student: at least two maps [B, C, H, W], in the order of the stages.
        teacher: as many, of the same widths, used as constants; sizes may differ.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere. Images without a valid
            position do not count.
    """
    pairs = []
    for own, other in zip(student, teacher, strict=True):
        theirs = main_directions(other.detach(), 1, mask)[..., 0]
        theirs = theirs * torch.where(theirs.sum(1, keepdim=True) < 0, -1.0, 1.0)
        each = main_directions(own, CANDIDATES, mask)
        cosine = (each * theirs[..., None]).sum(1).detach()
        nearest = cosine.abs().argmax(1, keepdim=True)
        sign = torch.where(cosine.gather(1, nearest) < 0, -1.0, 1.0)
        ours = each.gather(2, nearest[:, None].expand(-1, each.shape[1], -1))[..., 0] * sign
        pairs.append((ours, theirs))

    def kernel(lower: Tensor, upper: Tensor) -> Tensor:
        return (-(upper[:, :, None] - lower[:, None]).pow(2) / 8).exp()

    distances = [
        (kernel(ours, ours_next) - kernel(theirs, theirs_next)).pow(2).sum((1, 2))
        for (ours, theirs), (ours_next, theirs_next) in pairwise(pairs)
    ]
    return masked_mean(torch.stack(distances).sum(0), None if mask is None else mask.flatten(1).any(1))
