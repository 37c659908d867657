"""Telling one training example from others: the losses of contrastive distillation."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor


def noise_contrast(log_ratios: Tensor, examples: int) -> Tensor:
    """Noise-contrastive estimation: is an entry the anchor's own or one of K drawn uniformly from N? Batch mean.

    ``-log h_0 - Σ_k log (1 - h_k)`` with ``h = P / (P + K/N)`` (Tian et al., arXiv:1910.10699, eq. 18 and 19; Gutmann
    & Hyvärinen 2010), written with softplus, so that no P overflows.

    Args:
        log_ratios: log P [B, 1 + K] of the anchor's own entry, then of K others.
        examples: N.
    """
    others = log_ratios.shape[1] - 1
    above_noise = log_ratios - math.log(others / examples)
    return (F.softplus(-above_noise[:, 0]) + F.softplus(above_noise[:, 1:]).sum(1)).mean()
