"""Losses on feature maps [B, C, H, W]."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from adm_core.losses.spatial import at_size


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
    pooled = [F.adaptive_avg_pool2d(f, size) if f.shape[2:] != size else f for f in (student, teacher)]
    maps = [attention_map(f, mask) for f in pooled]
    return (maps[0] - maps[1]).pow(2).mean()
