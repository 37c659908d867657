"""Telling one training example from others: the losses of contrastive distillation."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from adm_core.losses.spatial import at_size, masked_mean


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


def patch_contrast(
    student: Tensor,
    teacher: Tensor,
    groups: int,
    patch: int,
    pool: int,
    temperature: float,
    mask: Tensor | None = None,
) -> Tensor:
    """How little a group of channels at a position resembles the teacher's same one among other groups near by.

    ``-log e^(-d⁺/τ) / (e^(-d⁺/τ) + Σ e^(-d⁻/τ))``, d the L1 distance of C / M channels, d⁺ that to the teacher's same
    group at the same position and d⁻ those to its other groups at all positions of the patch; summed over groups, mean
    over positions (Fan et al., NeurIPS 2023, as in the authors' code). Maps are max-pooled first; what does not fill a
    patch at the lower and right edge is left out.

    Args:
        student: [B, C, H, W].
        teacher: of the same shape.
        groups: M, a divisor of C.
        patch: positions a side.
        pool: side of the pooled windows; smaller where a pooled map would not hold a patch.
        temperature: τ.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere. Void positions are neither
            compared nor compared with.
    """
    pool = max(1, min(pool, min(student.shape[2:]) // patch))

    def cut(maps: Tensor) -> Tensor:
        """[B · patches, positions of a patch, ...] of maps [B, ..., h, w]."""
        h, w = (side // patch * patch for side in maps.shape[-2:])
        cells = maps[..., :h, :w].unflatten(-1, (-1, patch)).unflatten(-3, (-1, patch))
        patches: Tensor = cells.movedim((-4, -2, -3, -1), (1, 2, 3, 4)).flatten(0, 2).flatten(1, 2)
        return patches

    own, theirs = (cut(F.max_pool2d(maps, pool)) for maps in (student, teacher))
    own, theirs = (maps.unflatten(2, (groups, -1)).flatten(1, 2) for maps in (own, theirs))
    logits = -torch.cdist(own, theirs, p=1) / temperature
    of_group = torch.arange(logits.shape[1], device=logits.device) % groups
    same, itself = of_group[:, None] == of_group, torch.eye(len(of_group), dtype=torch.bool, device=logits.device)
    hidden, valid = same & ~itself, None
    if mask is not None:
        valid = cut(at_size(mask, F.max_pool2d(student, pool).shape[2:]))
        there = valid.repeat_interleave(groups, 1)
        hidden = hidden | ~(there[:, None] | itself)
    each = -logits.masked_fill(hidden, -1e9).log_softmax(2).diagonal(dim1=1, dim2=2)
    return masked_mean(each.unflatten(1, (-1, groups)).sum(2), valid)


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
