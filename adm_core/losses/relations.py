"""Relations: distances between whole predictions, similarities between examples and between positions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from adm_core.losses.features import unit
from adm_core.losses.spatial import at_size


def switch_distances(student: Tensor, teacher: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three batch-mean L1 distances on which SwitOKD decides (Qian et al., ECCV 2022, section 3).

    Args:
        student: logits [B, K].
        teacher: logits [B, K].
        target: class indices [B].

    Returns:
        Between student and teacher probabilities, student and label, teacher and label; each in [0, 2].
    """
    p_s, p_t = student.softmax(1), teacher.softmax(1)
    truth = F.one_hot(target, student.shape[1]).to(p_s.dtype)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().sum(1).mean()

    return distance(p_s, p_t), distance(p_s, truth), distance(p_t, truth)


def gram_distance(a: Tensor, b: Tensor) -> Tensor:
    """How much each row's inner products with all rows differ: ``Σ_j (a_i·a_j - b_i·b_j)²``, [N].

    Its sum is ``||A Aᵀ - B Bᵀ||²``.

    Args:
        a: [N, D].
        b: [N, E].
    """
    return (a @ a.T - b @ b.T).pow(2).sum(1)


def mahalanobis_relations(student: Tensor, teacher: Tensor, ridge: float) -> Tensor:
    """``sqrt(D_i (cov(D) + ridge · I)⁻¹ D_iᵀ)``, [B]: how much examples' relations to all others differ.

    ``D = (G_s - G_t) / K`` with G [B, B] the cosines of the examples' logits; cov is the covariance of D's columns
    over its rows (that of a sample, B - 1), through which gradients pass. Zero, without a gradient, where D_i is.

    Args:
        student: logits [B, K].
        teacher: logits [B, K].
        ridge: added to the diagonal, > 0.
    """
    ours, theirs = unit(student), unit(teacher)
    difference = (ours @ ours.T - theirs @ theirs.T) / student.shape[1]
    centred = difference - difference.mean(0)
    covariance = centred.T @ centred / max(len(centred) - 1, 1)
    identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    # Positive definite by the ridge, so that nobody need wait to hear whether it is.
    factor = torch.linalg.cholesky_ex(covariance + ridge * identity).L
    white = torch.linalg.solve_triangular(factor, difference.T, upper=False)
    lengths: Tensor = torch.linalg.vector_norm(white, dim=0)
    return lengths


def pairwise_similarity(
    student: Tensor, teacher: Tensor, mask: Tensor | None = None, kernel: int = 2, max_positions: int = 4096
) -> Tensor:
    """Mean squared difference of the cosines between all pairs of positions of an image: the pair-wise term of SKD.

    Liu et al., arXiv:1903.04197, section 3. Both maps are max-pooled first. A pooled position is the maximum over the
    valid positions beneath it and counts where there is one; the mean is over the valid pairs of all images. Takes
    memory for N² numbers per image and network, N being the number of pooled positions.

    Args:
        student: [B, C_s, H, W].
        teacher: [B, C_t, H, W]; widths may differ.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
        kernel: side of the pooled windows, at least 1; windows at the border may be smaller.
        max_positions: the largest N allowed, at least 1; ``kernel`` grows until N fits.
    """
    height, width = student.shape[2:]
    while math.ceil(height / kernel) * math.ceil(width / kernel) > max_positions:
        kernel += 1
    valid = student.new_ones(len(student), height, width) if mask is None else at_size(mask, (height, width))
    valid = valid.bool()[:, None]
    counts = F.max_pool2d(valid.float(), kernel, ceil_mode=True).flatten(2) > 0

    def similarity(features: Tensor) -> Tensor:
        pooled = F.max_pool2d(features.masked_fill(~valid, -math.inf), kernel, ceil_mode=True).flatten(2)
        # Zero where nothing is valid, so that a pair with such a position has cosine zero on both sides.
        vectors = unit(pooled.masked_fill(~counts, 0.0))
        return vectors.transpose(1, 2) @ vectors

    pairs = counts.flatten(1).sum(1).pow(2).sum().clamp_min(1)
    return (similarity(student) - similarity(teacher)).pow(2).sum() / pairs
