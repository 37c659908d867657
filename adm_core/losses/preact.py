"""Losses on feature maps [B, C, H, W] before an activation, where the sign tells whether a neuron will respond."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from adm_core.losses.spatial import at_size

RARE = 1e-3
"""Probability of a negative response below which its expectation is not what the margin is made of."""


def negative_mean(mean: Tensor, deviation: Tensor) -> Tensor:
    """Margin of each channel: ``E[x | x < 0]`` of a normal x; ``-3 σ`` where ``P(x < 0)`` is at most :data:`RARE`.

    ``μ - σ φ(μ/σ) / Φ(-μ/σ)``: Heo et al., arXiv:1904.01866, eq. 4 and section 3.1, with the exception of the authors'
    code.

    Args:
        mean: μ [C], the bias of a batch normalisation.
        deviation: its weight [C]; σ is its absolute value.

    Returns:
        [C], not positive.
    """
    mu, sigma = mean.double(), deviation.double().abs()
    z = mu / sigma.clamp_min(1e-12)
    share = torch.special.ndtr(-z)
    density = (-z.square() / 2).exp() / math.sqrt(2 * math.pi)
    expected = mu - sigma * density / share.clamp_min(RARE)
    return torch.where(share > RARE, expected, -3 * sigma).to(mean.dtype)


def partial_l2(student: Tensor, teacher: Tensor, margin: Tensor, mask: Tensor | None = None) -> Tensor:
    """Squared distance to ``max(t, m)``, nothing where the teacher is not positive and the student already below it.

    Summed over channels and valid positions, mean over the batch (arXiv:1904.01866, eq. 2 and 3).

    Args:
        student: [B, C, H, W].
        teacher: of the same shape.
        margin: m [C], not positive.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    target = torch.maximum(teacher, margin[:, None, None])
    counts = (student > target) | (target > 0)
    return _summed((student - target).square() * counts, mask)


def alternative_l2(student: Tensor, teacher: Tensor, margin: float, mask: Tensor | None = None) -> Tensor:
    """Squared hinge that brings each neuron to the teacher's side of zero, and beyond it by a margin.

    ``(s + m)² [s > -m, t <= 0] + (s - m)² [s <= m, t > 0]``, summed over channels and valid positions, mean over the
    batch (Heo et al., arXiv:1811.03233, eq. 5).

    Args:
        student: [B, C, H, W].
        teacher: of the same shape; its sign alone matters.
        margin: m > 0.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    side = torch.where(teacher > 0, 1.0, -1.0)
    return _summed((margin - side * student).clamp_min(0).square(), mask)


def _summed(error: Tensor, mask: Tensor | None) -> Tensor:
    each = error.sum(1)
    if mask is not None:
        each = each.masked_fill(~at_size(mask, each.shape[1:]), 0.0)
    return each.sum() / len(each)
