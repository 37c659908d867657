"""Soft masks of a map that learnt tokens give, and distances within them (Huang et al., ICLR 2023)."""

from __future__ import annotations

import torch
from torch import Tensor

from adm_core.losses.spatial import at_size, masked_mean


def token_masks(tokens: Tensor, maps: Tensor) -> Tensor:
    """``σ(token · F_p)``: tokens [T, C] and maps [B, C, H, W] → masks [B, T, H, W] in (0, 1)."""
    return torch.einsum("tc,bchw->bthw", tokens, maps).sigmoid()


def dice_overlap(masks: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of ``2 Σ m_i m_j / (Σ m_i² + Σ m_j²)`` over pairs of different masks, then over images: in [0, 1].

    Args:
        masks: [B, T, H, W], T at least 2.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere. Images without a valid
            position do not count.
    """
    flat, seen = _valid(masks, mask)
    products = flat @ flat.transpose(1, 2)
    squares = products.diagonal(dim1=1, dim2=2)
    dice = 2 * products / (squares[:, :, None] + squares[:, None]).clamp_min(1e-12)
    count = masks.shape[1]
    each = (dice.sum((1, 2)) - dice.diagonal(dim1=1, dim2=2).sum(1)) / (count * (count - 1))
    return masked_mean(each, seen)


def masked_distance(student: Tensor, teacher: Tensor, masks: Tensor, mask: Tensor | None = None) -> Tensor:
    """``½ Σ_p m_p² (s_p - t_p)² / Σ_p m_p``, mean over masks, channels and images.

    Args:
        student: [B, C, H, W].
        teacher: of the same shape.
        masks: m, [B, T, H, W].
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere. Images without a valid
            position do not count.
    """
    flat, seen = _valid(masks, mask)
    error = (student - teacher).pow(2).flatten(2)
    within = flat.pow(2) @ error.transpose(1, 2) / (flat.sum(2, keepdim=True) + 1e-5)
    return masked_mean(within.mean((1, 2)), seen) / 2


def _valid(masks: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Masks [B, T, H·W], zero at void positions, and which images have a valid one, bool [B]."""
    if mask is None:
        return masks.flatten(2), None
    valid = at_size(mask, masks.shape[2:])
    return masks.masked_fill(~valid[:, None], 0.0).flatten(2), valid.flatten(1).any(1)
