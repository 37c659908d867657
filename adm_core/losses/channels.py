"""Losses on channels seen as distributions over positions: a channel of a map [B, C, H, W] says where, not what."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from adm_core.losses.spatial import at_size


def log_softmax_over_positions(maps: Tensor, temperature: float, valid: Tensor | None) -> Tensor:
    """Each channel's log-distribution over the valid positions, [B, C, H·W].

    Args:
        maps: [B, C, H, W].
        temperature: T > 0.
        valid: bool [B, H, W]; elsewhere the result is hugely negative but finite, so that ``p · log p`` is zero;
            where nothing of an image is valid, its distributions are uniform. None: everywhere.
    """
    scaled = (maps / temperature).flatten(2)
    if valid is not None:
        scaled = scaled.masked_fill(~valid.flatten(1)[:, None], -1e9)
    return F.log_softmax(scaled, dim=2)


def _valid(maps: Tensor, mask: Tensor | None) -> Tensor | None:
    return None if mask is None else at_size(mask, maps.shape[2:])


def _images(maps: Tensor, valid: Tensor | None) -> Tensor | int:
    """How many images have a valid position, at least one."""
    return len(maps) if valid is None else valid.flatten(1).any(1).sum().clamp_min(1)


def channel_divergence(student: Tensor, teacher: Tensor, temperature: float, mask: Tensor | None = None) -> Tensor:
    """``T² / (B C) Σ KL(teacher || student)`` of every channel's softmax over positions (arXiv:2011.13256, section 3).

    Args:
        student: [B, C, H, W].
        teacher: of the same shape; detach it to make it a target.
        temperature: T > 0.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere. Void positions are left out
            of the softmax; B counts the images that have a valid one.
    """
    valid = _valid(student, mask)
    log_s = log_softmax_over_positions(student, temperature, valid)
    log_t = log_softmax_over_positions(teacher, temperature, valid)
    total = (log_t.exp() * (log_t - log_s)).sum()
    return temperature**2 * total / (_images(student, valid) * student.shape[1])


def category_similarity(student: Tensor, teacher: Tensor, temperature: float, mask: Tensor | None = None) -> Tensor:
    """Mean squared difference of the class-by-class Gram matrices ``P Pᵀ``: the category-wise similarity of DSD.

    P [K, N] holds every class's softmax over positions, after average pooling by 2x2 (Feng et al., arXiv:2107.08591,
    in the form of CIRKD's code). As rows of P sum to one, entries are of the order of 1 / N.

    Args:
        student: logits [B, K, H, W].
        teacher: of the same shape.
        temperature: T > 0.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere. A pooled position is the
            mean of the valid ones beneath it and counts where there is one; images without any are left out.
    """
    valid, pooled_valid = _valid(student, mask), None
    if valid is not None:
        share = F.avg_pool2d(valid.to(student.dtype)[:, None], 2, ceil_mode=True)
        pooled_valid = share[:, 0] > 0

    def gram(logits: Tensor) -> Tensor:
        if valid is not None:
            logits = logits.masked_fill(~valid[:, None], 0.0)
        pooled = F.avg_pool2d(logits, 2, ceil_mode=True)
        if valid is not None:
            pooled = pooled / share.clamp_min(1e-6)
        p = log_softmax_over_positions(pooled, temperature, pooled_valid).exp()
        return p @ p.transpose(1, 2)

    total = (gram(student) - gram(teacher)).pow(2).sum()
    return total / (_images(student, valid) * student.shape[1] ** 2)
