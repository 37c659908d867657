"""Losses on feature maps [B, C, H, W]."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def attention_map(features: Tensor) -> Tensor:
    """Spatial attention: channel mean of squares, flattened and L2-normalised, [B, H·W].

    Zagoruyko & Komodakis, arXiv:1612.03928, section 3.1.
    """
    return F.normalize(features.pow(2).mean(1).flatten(1), dim=1)


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of attention maps; the larger map is pooled to the smaller one's size.

    arXiv:1612.03928 with the mean over positions that later toolkits use. Widths may differ.

    Args:
        student: feature map [B, C_s, H_s, W_s].
        teacher: feature map [B, C_t, H_t, W_t].
    """
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    maps = [attention_map(F.adaptive_avg_pool2d(f, size) if f.shape[2:] != size else f) for f in (student, teacher)]
    return (maps[0] - maps[1]).pow(2).mean()
