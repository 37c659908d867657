"""Telling one training example from others: the losses of contrastive distillation."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from adm_core.losses.spatial import masked_mean


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


def supervised_contrast(similarity: Tensor, target: Tensor) -> Tensor:
    """How little each example resembles the others of its class among all others, mean over examples.

    ``-1/|P_i| Σ_{j ∈ P_i} log(exp(S_ij) / Σ_{k ≠ i} exp(S_ik))``, P_i the other examples of i's class (Khosla et al.,
    arXiv:2004.11362, eq. 2). Examples without another of their class do not count.

    Args:
        similarity: S, [B, B], divided by its temperature; rows and columns may come from two networks.
        target: class indices [B].
    """
    itself = torch.eye(len(target), dtype=torch.bool, device=target.device)
    positive = (target[:, None] == target) & ~itself
    log_p = similarity.masked_fill(itself, -1e9).log_softmax(1)  # finite, so that one example alone gives zero
    each = -log_p.masked_fill(~positive, 0.0).sum(1) / positive.sum(1).clamp_min(1)
    return masked_mean(each, positive.any(1))


def kantorovich_contrast(scores: Tensor, known: Tensor) -> Tensor:
    """``mean_i≠j g_ij - mean_i g_ii``: what a critic g scores other pairs higher by than an example with itself.

    With g of Lipschitz constant 1 its negative is the dual form of the Wasserstein distance between joint and
    independent pairs (Kantorovich & Rubinstein). Means are over examples, and pairs of examples, that there are.

    Args:
        scores: g, [B, B].
        known: bool [B].
    """
    both = known[:, None] & known
    itself = torch.eye(len(known), dtype=torch.bool, device=known.device)
    return masked_mean(scores, both & ~itself) - masked_mean(scores.diagonal(), known)
