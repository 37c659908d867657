"""What two networks' vectors of one batch have in common, dimension by dimension: their spread over the examples.

Vectors are [B, D], of one width; a student's come from a trained projector. ``known``, bool [B], tells which examples
count; None: all do. Statistics are those of the examples that count.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adm_core.losses.features import unit


def standardised(vectors: Tensor, known: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """``(x - μ) / sqrt(σ² + eps)`` with mean and variance (divided by B) of each dimension over the batch, [B, D].

    Rows of examples that do not count are zero.

    Args:
        vectors: [B, D].
        known: bool [B]; None: all count.
        eps: added to the variance; a dimension that is constant over the batch becomes zero.
    """
    counted, number = _counted(vectors, known)
    centred = (vectors - (vectors * counted).sum(0) / number) * counted
    return centred / (centred.pow(2).sum(0) / number + eps).sqrt()


def cross_correlation(student: Tensor, teacher: Tensor, off_diagonal: float, known: Tensor | None = None) -> Tensor:
    """``Σ_i (R_ii - 1)² + off_diagonal · Σ_i≠j R_ij²``, R [D, D] the correlation of each two dimensions in the batch.

    arXiv:2507.21844; rows of R belong to the teacher.

    Args:
        student: [B, D].
        teacher: [B, D].
        off_diagonal: κ, weight of the correlations between different dimensions.
        known: bool [B]; None: all count.
    """
    number = _counted(student, known)[1]
    correlation = standardised(teacher, known).T @ standardised(student, known) / number
    diagonal = correlation.diagonal()
    apart = correlation.pow(2).sum() - diagonal.pow(2).sum()
    return ((diagonal - 1).pow(2).sum() + off_diagonal * apart) * _any(known)


def log_correlation(student: Tensor, teacher: Tensor, alpha: float, known: Tensor | None = None) -> Tensor:
    """``log2 Σ_i |1 - c_i|^(2 α)``, c_i the correlation of dimension i between the networks, times (B - 1) / B.

    Miles et al., arXiv:2112.00459. As in the authors' code, deviations are divided by B - 1 and products
    by B, so that no c_i reaches 1 and the logarithm stays finite.

    Args:
        student: [B, D].
        teacher: [B, D].
        alpha: α, order of Rényi's entropy.
        known: bool [B]; None: all count.
    """
    number = _counted(student, known)[1]
    correlation = (standardised(student, known) * standardised(teacher, known)).sum(0) * (number - 1) / number**2
    return (1 - correlation).pow(2).pow(alpha).sum().log2() * _any(known)


def matrix_information(student: Tensor, teacher: Tensor, known: Tensor | None = None) -> Tensor:
    """``Σ_ij A_ij² - Σ_ij C_ij²``: what is left until the student tells all of the teacher's relations.

    A and C [B, B] are the student's cosines between examples and their element-wise product with the teacher's, each
    divided by its trace: Rényi's matrix-based entropies of order 2 without their logarithms (Miles et al.,
    arXiv:2112.00459).

    Args:
        student: [B, D].
        teacher: [B, E]; widths may differ.
        known: bool [B]; None: all count.
    """

    def cosines(vectors: Tensor) -> Tensor:
        rows = unit(vectors) * _counted(vectors, known)[0]
        return rows @ rows.T

    def of_trace_one(matrix: Tensor) -> Tensor:
        return matrix / matrix.diagonal().sum().clamp_min(1e-12)

    own = cosines(student)
    return of_trace_one(own).pow(2).sum() - of_trace_one(own * cosines(teacher)).pow(2).sum()


def log_sum_distance(student: Tensor, teacher: Tensor, exponent: float, known: Tensor | None = None) -> Tensor:
    """``log Σ_bi |s_bi - t_bi|^exponent`` of both networks' standardised vectors.

    Miles & Mikolajczyk, arXiv:2303.11098; 1e-4 is added to variances, as in the authors' code. A sum
    below 1e-12 counts as that and gives no gradient.

    Args:
        student: [B, D].
        teacher: [B, D].
        exponent: α, at least 1; large values look at the largest differences alone.
        known: bool [B]; None: all count.
    """
    difference = standardised(student, known, 1e-4) - standardised(teacher, known, 1e-4)
    return difference.abs().pow(exponent).sum().clamp_min(1e-12).log() * _any(known)


def _counted(vectors: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor]:
    """Ones and zeros [B, 1] for the examples that count and do not, and how many do, at least one."""
    counted = torch.ones_like(vectors[:, :1]) if known is None else known[:, None].to(vectors.dtype)
    return counted, counted.sum().clamp_min(1)


def _any(known: Tensor | None) -> Tensor | int:
    """0 where no example counts, 1 otherwise."""
    return 1 if known is None else known.any()
