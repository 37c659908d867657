"""Relations between the examples of a batch, which a student can take over whatever the width of its features.

Features are vectors [B, C], or maps [B, C, H, W], of which the mean over valid positions stands for an example. One
without a valid position has no relations.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from adm_core.losses.features import unit
from adm_core.losses.spatial import at_size, masked_mean


def activation_similarity(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """``1/B² ||G_s - G_t||²``: rows of G are rows of ``Q Qᵀ`` scaled to length one, rows of Q whole maps.

    Tung & Mori, arXiv:1907.09682, section 3. Maps are not averaged over positions here: void ones are set to zero.

    Args:
        student: [B, C_s] or [B, C_s, H, W].
        teacher: [B, C_t] or [B, C_t, ., .]; width and size may differ.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere. B counts the examples that
            have one.
    """

    ours, theirs = (unit(activation_gram(features, mask)) for features in (student, teacher))
    count: Tensor | int = len(student) if mask is None else mask.flatten(1).any(1).sum().clamp_min(1)
    return (ours - theirs).pow(2).sum() / count**2


def activation_gram(features: Tensor, mask: Tensor | None = None) -> Tensor:
    """``Q Qᵀ`` [B, B], rows of Q the examples' whole features, zero at void positions: [B, C] or [B, C, H, W]."""
    if mask is not None and features.dim() == 4:
        features = features.masked_fill(~at_size(mask, features.shape[2:])[:, None], 0.0)
    flat = features.flatten(1)
    return flat @ flat.T


def distance_relations(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Smooth L1 between distances of two examples, each as a share of its network's mean; mean over all B² pairs.

    The distance-wise part of RKD (Park et al., arXiv:1904.05068, section 3.2.1).

    Args:
        student: [B, C_s] or [B, C_s, H, W].
        teacher: [B, C_t] or [B, C_t, ., .]; width and size may differ.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    ours, theirs, pairs = _vectors(student, teacher, mask)
    others = pairs & ~torch.eye(len(pairs), dtype=torch.bool, device=pairs.device)

    def relative(vectors: Tensor) -> Tensor:
        distance: Tensor = torch.linalg.vector_norm(vectors[None] - vectors[:, None], dim=2)
        return distance / masked_mean(distance, others).clamp_min(1e-12)

    return masked_mean(F.smooth_l1_loss(relative(ours), relative(theirs), reduction="none"), pairs)


def angle_relations(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Smooth L1 between the cosines of the angles that two examples make at a third; mean over all B³ triplets.

    The angle-wise part of RKD (Park et al., arXiv:1904.05068, section 3.2.2). An angle without two sides has cosine
    zero. Takes memory for B³ + B² C numbers per network.

    Args:
        student: [B, C_s] or [B, C_s, H, W].
        teacher: [B, C_t] or [B, C_t, ., .]; width and size may differ.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    ours, theirs, pairs = _vectors(student, teacher, mask)

    def cosines(vectors: Tensor) -> Tensor:
        sides = unit(vectors[None] - vectors[:, None], dim=2)
        return sides @ sides.transpose(1, 2)

    triplets = pairs[:, :, None] & pairs[:, None]
    return masked_mean(F.smooth_l1_loss(cosines(ours), cosines(theirs), reduction="none"), triplets)


def neighbour_divergence(student: Tensor, teacher: Tensor, mask: Tensor | None = None, eps: float = 1e-7) -> Tensor:
    """``1/B² Σ_ij p_ij log(p_ij / q_ij)``: who is near whom, as distributions p of the teacher and q of the student.

    A row of p is ``(1 + cos) / 2`` to all examples of the batch, itself among them, scaled to sum one (Passalis &
    Tefas, arXiv:1803.10837, section 3, with the mean over B² of the authors' code).

    Args:
        student: [B, C_s] or [B, C_s, H, W].
        teacher: [B, C_t] or [B, C_t, ., .]; width and size may differ.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
        eps: added to both probabilities within the logarithm.
    """
    ours, theirs, pairs = _vectors(student, teacher, mask)

    def probabilities(vectors: Tensor) -> Tensor:
        nearness = ((1 + unit(vectors) @ unit(vectors).T) / 2).masked_fill(~pairs, 0.0)
        return nearness / nearness.sum(1, keepdim=True).clamp_min(eps)

    p, q = probabilities(theirs), probabilities(ours)
    # The differences of a row sum to zero; taken off, they take along what rounding leaves of them, which is as large
    # as the divergence of rows that are nearly equal.
    return masked_mean(p * ((p - q) / (q + eps)).log1p() - (p - q), pairs)


def kernel_congruence(student: Tensor, teacher: Tensor, gamma: float, order: int, mask: Tensor | None = None) -> Tensor:
    """``1/B² ||K_s - K_t||²`` of a Gaussian kernel between directions, as a Taylor series.

    ``K = exp(-2γ) Σ_p (2γ)^p / p! cos^p`` for p = 0 ... order, which tends to ``exp(-γ |x - y|²)`` of unit vectors
    (Peng et al., arXiv:1904.01802, section 3).

    Args:
        student: [B, C_s] or [B, C_s, H, W].
        teacher: [B, C_t] or [B, C_t, ., .]; width and size may differ.
        gamma: γ > 0.
        order: the highest power, at least 1.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    ours, theirs, pairs = _vectors(student, teacher, mask)

    def kernel(vectors: Tensor) -> Tensor:
        cosine = unit(vectors) @ unit(vectors).T
        powers = ((2 * gamma) ** p / math.factorial(p) * cosine**p for p in range(1, order + 1))
        return math.exp(-2 * gamma) * sum(powers, start=torch.ones_like(cosine))

    return masked_mean((kernel(ours) - kernel(theirs)).pow(2), pairs)


def linear_cka(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """``|YᵀX|² / (|XᵀX| |YᵀY|)`` of flattened features centred over the batch, Frobenius norms: in [0, 1].

    Linear centred kernel alignment (Kornblith et al., arXiv:1905.00414), computed from the products of examples
    [B, B], which give the same norms. It is 1 for equal features, and no turning or scaling of either moves it. Maps
    are not averaged over positions: void ones are set to zero.

    Args:
        student: [B, C_s] or [B, C_s, H, W].
        teacher: [B, C_t] or [B, C_t, ., .]; width and size may differ.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere. Examples without one do not
            count.
    """

    def gram(features: Tensor) -> Tensor:
        if mask is None or features.dim() == 2:
            rows, known = features.flatten(1), features.new_ones(len(features), 1)
        else:
            valid = at_size(mask, features.shape[2:])
            rows = features.masked_fill(~valid[:, None], 0.0).flatten(1)
            known = valid.flatten(1).any(1, keepdim=True).to(rows.dtype)
        centred = (rows - (rows * known).sum(0) / known.sum().clamp_min(1)) * known
        return centred @ centred.T

    own, other = gram(student), gram(teacher)
    likeness: Tensor = (own * other).sum() / (own.norm() * other.norm()).clamp_min(1e-12)
    return likeness


def _vectors(student: Tensor, teacher: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """A vector for each example and network, [B, C], and which pairs of examples have them, bool [B, B]."""
    (ours, known_ours), (theirs, known_theirs) = (pooled(features, mask) for features in (student, teacher))
    known = known_ours & known_theirs
    return ours, theirs, known[:, None] & known


def pooled(features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A vector for each example, [B, C]: vectors as they are, maps [B, C, H, W] averaged over valid positions.

    Args:
        features: of either kind.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.

    Returns:
        The vectors, zero where nothing is valid, and bool [B], whether anything is.
    """
    if features.dim() == 2 or mask is None:
        vectors = features if features.dim() == 2 else features.mean((2, 3))
        return vectors, torch.ones(len(features), dtype=torch.bool, device=features.device)
    valid = at_size(mask, features.shape[2:])
    count = valid.flatten(1).sum(1)
    summed = features.masked_fill(~valid[:, None], 0.0).sum((2, 3))
    return summed / count.clamp_min(1)[:, None], count > 0
