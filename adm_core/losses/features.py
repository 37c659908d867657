"""Losses on feature maps [B, C, H, W]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from adm_core.align import pool_map
from adm_core.losses.spatial import at_size, masked_mean


def unit(vectors: Tensor, dim: int = 1, eps: float = 1e-6) -> Tensor:
    """Vectors along ``dim`` scaled to length one; those shorter than ``eps`` become zero and pass no gradient.

    A direction that is not there has no useful gradient: dividing by a tiny length would make a huge one.
    """
    length = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    return torch.where(length > eps, vectors / length.clamp_min(eps), 0.0)


def attention_map(features: Tensor, mask: Tensor | None = None) -> Tensor:
    """Spatial attention: channel mean of squares, flattened and L2-normalised, [B, H·W].

    Zagoruyko & Komodakis, arXiv:1612.03928, section 3.1.

    Args:
        features: [B, C, H, W].
        mask: bool [B, ., .] of any size; positions where it is false get no attention. None: none do.
    """
    energy = features.pow(2).mean(1)
    if mask is not None:
        energy = energy * at_size(mask, energy.shape[1:])
    return F.normalize(energy.flatten(1), dim=1)


def attention_transfer(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared difference of attention maps; the larger map is pooled to the smaller one's size.

    arXiv:1612.03928 with the mean over positions that later toolkits use. Widths may differ.

    Args:
        student: feature map [B, C_s, H_s, W_s].
        teacher: feature map [B, C_t, H_t, W_t].
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    maps = [attention_map(pool_map(f, size), mask) for f in (student, teacher)]
    return (maps[0] - maps[1]).pow(2).mean()


Factor = Literal["tensor", "attention", "positions"]
"""What is scaled to length one: an image's whole map, its attention map, or the channels of each position."""


def factor_distance(student: Tensor, teacher: Tensor, factor: Factor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute difference of factors of length one (Kim et al., arXiv:1802.04977, eq. 4, p = 1): a scalar.

    Args:
        student: [B, C, H, W].
        teacher: of the same shape.
        factor: what a factor is; of ``positions`` the mean is over the valid ones alone.
        mask: bool [B, ., .] of any size; positions where it is false are no part of a factor; None: all are.
    """
    if factor == "attention":
        return (attention_map(student, mask) - attention_map(teacher, mask)).abs().mean()
    if factor == "positions":
        return masked_mean((unit(student) - unit(teacher)).abs().mean(1), mask)
    kept = 1 if mask is None else at_size(mask, student.shape[2:])[:, None]
    own, theirs = (unit((f * kept).flatten(1)) for f in (student, teacher))
    return (own - theirs).abs().mean()


def residual_attention(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
    """Mean squared difference of how attention changes from level to level: the pixel-wise similarity of DSD.

    For every two levels l < m the residual ``r = n(A_m - A_l)`` of attention maps A (:func:`attention_map`), n being
    L2-normalisation over positions; the mean over pairs of levels and valid positions of ``(r_s - r_t)²``
    (Feng et al., arXiv:2107.08591). All maps are average-pooled to the smallest height and width among them.

    Args:
        student: at least two maps [B, C, H, W], of any widths and sizes, in the order of the levels.
        teacher: as many.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    every = [*student, *teacher]
    size = (min(f.shape[2] for f in every), min(f.shape[3] for f in every))

    def residuals(levels: Sequence[Tensor]) -> Tensor:
        attention = torch.stack([attention_map(pool_map(f, size), mask) for f in levels])
        lower, upper = torch.triu_indices(len(levels), len(levels), 1, device=attention.device)
        return unit(attention[upper] - attention[lower], dim=2)

    error = (residuals(student) - residuals(teacher)).pow(2).mean(0)
    return masked_mean(error.unflatten(1, size), mask)


def random_keep(
    features: Tensor, ratio: float | Tensor, over: Literal["positions", "channels"], generator: Generator
) -> Tensor:
    """Zeros, each with probability ``ratio``, and ones, to multiply a map with.

    Args:
        features: the map [B, C, H, W].
        ratio: in [0, 1].
        over: whether whole positions are hidden (result [B, 1, H, W]) or whole channels ([B, C, 1, 1]).
        generator: source of randomness on the map's device.
    """
    b, c, h, w = features.shape
    shape = (b, 1, h, w) if over == "positions" else (b, c, 1, 1)
    return (torch.rand(shape, generator=generator, device=features.device) >= ratio).to(features.dtype)


def squared_distance(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """``1/B Σ (student - teacher)²`` over channels and valid positions: a sum per example, not a mean.

    Args:
        student: [B, C, H, W].
        teacher: of the same shape.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    error = (student - teacher).pow(2).sum(1)
    if mask is not None:
        error = error.masked_fill(~at_size(mask, error.shape[1:]), 0.0)
    return error.sum() / len(error)


def direction_distance(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """``1/B ||student / ||student|| - teacher / ||teacher|| ||²``, each norm that of the whole batch's valid positions.

    Between 0 and 4 / B (Mansourian et al., arXiv:2403.05451, as in the authors' code).

    Args:
        student: [B, C, H, W].
        teacher: of the same shape.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    if mask is not None:
        void = ~at_size(mask, student.shape[2:])[:, None]
        student, teacher = student.masked_fill(void, 0.0), teacher.masked_fill(void, 0.0)
    difference: Tensor = unit(student.flatten(), dim=0) - unit(teacher.flatten(), dim=0)
    return difference.pow(2).sum() / len(student)


def normalised_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 of vectors [..., C] to the teacher's, each of which is brought to mean 0 and variance 1: [...].

    The mean over channels (Miles et al., arXiv:2403.06213, section 3); 1e-5 is added to the variance.

    Args:
        student: [..., C].
        teacher: of the same shape.
    """
    target = F.layer_norm(teacher, teacher.shape[-1:])
    return F.smooth_l1_loss(student, target, reduction="none").mean(-1)


def matched_groups(student: Tensor, teacher: Tensor) -> Tensor:
    """``Σ_n mean (student_n - teacher)²``: each of N groups of channels against the same map (NORM, ICLR 2023).

    The larger map is max-pooled to the smaller one's height and width.

    Args:
        student: [B, N · C, H_s, W_s]; channels of a group lie together.
        teacher: [B, C, H_t, W_t].
    """
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    own, other = (pool_map(f, size, "max") for f in (student, teacher))
    error: Tensor = own.unflatten(1, (-1, other.shape[1])) - other[:, None]
    return error.pow(2).sum(1).mean()


def gaussian_nll(mean: Tensor, variance: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """``½ ((target - mean)² / σ² + log σ²)``, mean over examples, channels and valid positions.

    The negative log-likelihood of a normal distribution with one variance per channel, without its constant (Ahn et
    al., arXiv:1904.05835, section 2).

    Args:
        mean: [B, C, H, W].
        variance: σ² [C], positive.
        target: of the shape of ``mean``.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    spread = variance[:, None, None]
    return masked_mean(((target - mean).pow(2) / spread + spread.log()).mean(1) / 2, mask)


def hierarchical_context(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error of two maps and of both pooled to sides 4, 2 and 1, weighted 1, 1/2, 1/4 and 1/8.

    Sides that the maps do not exceed are left out, and the next takes their weight; the weights are divided by their
    sum (Chen et al., arXiv:2104.09044, section 3, as in the authors' code). A pooled position is the mean of the
    valid ones beneath it.

    Args:
        student: [B, C, H, W].
        teacher: of the same shape.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    difference, valid = student - teacher, None if mask is None else at_size(mask, student.shape[2:])
    error, weight, total = masked_mean(difference.pow(2).mean(1), mask), 1.0, 1.0
    if valid is not None:
        difference = difference.masked_fill(~valid[:, None], 0.0)
    for side in (side for side in (4, 2, 1) if side < student.shape[2]):
        pooled, counts = pool_map(difference, (side, side)), None
        if valid is not None:
            share = pool_map(valid.to(pooled.dtype)[:, None], (side, side))
            pooled, counts = pooled / share.clamp_min(1e-6), share[:, 0] > 0
        weight /= 2
        error = error + weight * masked_mean(pooled.pow(2).mean(1), counts)
        total += weight
    return error / total
