"""Losses on class logits. Classes lie along dimension 1: [B, K], or [B, K, H, W] for dense predictions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from adm_core.losses.spatial import at_size, masked_mean

NO_MASS = -1e9
"""Logarithm of no mass; finite, so that no difference of two of them is undefined."""


def kl_divergence(
    student: Tensor, teacher: Tensor, temperature: float | Tensor = 1.0, mask: Tensor | None = None
) -> Tensor:
    """``T² KL(softmax(teacher / T) || softmax(student / T))``, mean over examples (and valid positions).

    Hinton et al., arXiv:1503.02531, section 2; the factor T² keeps gradients comparable across temperatures.

    Args:
        student: logits [B, K] or [B, K, H, W].
        teacher: logits of the same shape; detach them to make them a target.
        temperature: T > 0.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    return masked_mean(kl_map(student, teacher, temperature), mask)


def kl_map(student: Tensor, teacher: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """The same divergence per example [B] or per position [B, H, W], not reduced."""
    log_s = F.log_softmax(student / temperature, dim=1)
    log_t = F.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * (log_t.exp() * (log_t - log_s)).sum(1)


def standardised(logits: Tensor) -> Tensor:
    """``(z - mean) / std`` over the classes of each example or position, of the same shape.

    Sun et al., arXiv:2403.01427, algorithm 1. The deviation is that of a sample (K - 1), with 1e-7 added as in the
    authors' code; logits that are all equal become zeros. The order of the classes stays.

    Args:
        logits: [B, K] or [B, K, H, W].
    """
    return (logits - logits.mean(1, keepdim=True)) / (logits.std(1, keepdim=True) + 1e-7)


def layer_normalised(logits: Tensor, scale: float) -> Tensor:
    """``scale · (z - mean) / sqrt(var + 1e-7)`` over the classes of each example: mean 0 and deviation ``scale``.

    As in the authors' code of NORM; the variance is that of the classes (K, not K - 1). The order of the classes stays.

    Args:
        logits: [B, K].
        scale: the deviation.
    """
    return scale * F.layer_norm(logits, logits.shape[1:], eps=1e-7)


def log_softmax_of_others(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Log-probabilities at temperature T of all classes but the target's, renormalised; the target's own is -1e9.

    Args:
        logits: [B, K] or [B, K, H, W].
        target: class indices [B] or [B, H, W].
        temperature: T > 0.
    """
    return (logits / temperature).scatter(1, target[:, None], NO_MASS).log_softmax(1)


def soft_cross_entropy(log_own: Tensor, log_target: Tensor) -> Tensor:
    """``-Σ_k target_k log own_k`` of log-probabilities [B, K, ...]: [B, ...]; a class of no mass adds nothing."""
    return -(log_target.exp() * log_own).sum(1)


def transformed_kl(student: Tensor, teacher: Tensor, exponent: float) -> tuple[Tensor, Tensor]:
    """``KL(q || p_s)`` for ``q_c = p_t,c^γ / U``, ``U = Σ_c p_t,c^γ`` (Zheng & Yang, arXiv:2402.11148, section 3).

    Args:
        student: logits [B, K] or [B, K, H, W], at temperature 1.
        teacher: logits of the same shape.
        exponent: γ > 0; γ = 1 / T is a teacher at temperature T.

    Returns:
        The divergence and U, both [B] or [B, H, W].
    """
    mass = (exponent * teacher.log_softmax(1)).logsumexp(1).exp()
    return kl_map(student, exponent * teacher), mass


def normalised_kl(student: Tensor, teacher: Tensor, scale: float) -> Tensor:
    """``T_t² KL(softmax(z_t / T_t) || softmax(z_s / T_s))``, each T ``scale`` · std of those logits (arXiv:2308.00520).

    Args:
        student: logits [B, K] or [B, K, H, W].
        teacher: logits of the same shape.
        scale: of the deviation over classes, which is that of a sample (K - 1).

    Returns:
        [B] or [B, H, W].
    """
    t_s, t_t = (scale * z.std(1, keepdim=True).clamp_min(1e-7) for z in (student, teacher))
    return t_t.squeeze(1) ** 2 * kl_map(student / t_s, teacher / t_t)


def noisy_copies(logits: Tensor, count: int, share: float, generator: Generator) -> Tensor:
    """``(1 - share) z + share · ε`` with standard normal ε, as often as asked for: [count, *logits.shape].

    Args:
        logits: z, of any shape.
        count: copies.
        share: of the noise, in [0, 1].
        generator: randomness, on the device of the logits.
    """
    shape = (count, *logits.shape)
    noise = torch.randn(shape, generator=generator, device=logits.device, dtype=logits.dtype)
    return (1 - share) * logits + share * noise


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of logits [B, K] against class indices [B]."""
    return F.cross_entropy(logits, target)


def masked_cross_entropy(logits: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    """Mean cross-entropy over examples (and valid positions).

    Args:
        logits: [B, K] or [B, K, H, W].
        target: class indices [B], or [B, ., .] of any size, read at the positions of the logits.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    if logits.dim() == 4:
        target = at_size(target, logits.shape[2:])
    return masked_mean(F.cross_entropy(logits, target, reduction="none"), mask)


def target_cross_entropy(student: Tensor, teacher: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """``-p_t,y log p_s,y``, the cross-entropy of the target's class alone, mean over examples (arXiv:2303.13005).

    Args:
        student: logits [B, K] or [B, K, H, W].
        teacher: logits of the same shape, used as a constant.
        target: class indices [B], or [B, ., .] of any size, read at the positions of the logits.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    if student.dim() == 4:
        target = at_size(target, student.shape[2:])
    index = target[:, None]
    log_s = student.log_softmax(1).gather(1, index).squeeze(1)
    return masked_mean(-teacher.detach().softmax(1).gather(1, index).squeeze(1) * log_s, mask)


def target_enhanced(
    student: Tensor, teacher: Tensor, target: Tensor, exponent: float, mask: Tensor | None = None
) -> Tensor:
    """``-Σ_c ((p_t + 1_y)_c^ε - 1_y) log p_s,c`` at temperature 1, mean over examples (Hao et al., arXiv:2310.19444).

    Args:
        student: logits [B, K] or [B, K, H, W].
        teacher: logits of the same shape, used as a constant.
        target: class indices [B], or [B, ., .] of any size, read at the positions of the logits.
        exponent: ε; 1 leaves the cross-entropy with the teacher's probabilities.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    if student.dim() == 4:
        target = at_size(target, student.shape[2:])
    label = F.one_hot(target, student.shape[1]).movedim(-1, 1)
    weights = (teacher.detach().softmax(1) + label) ** exponent - label
    return masked_mean(-(weights * student.log_softmax(1)).sum(1), mask)


def squared_probabilities(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """``mean_k (softmax(student)_k - softmax(teacher)_k)²``, mean over examples (and valid positions).

    Args:
        student: logits [B, K] or [B, K, H, W].
        teacher: logits of the same shape; detach them to make them a target.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    return masked_mean((student.softmax(1) - teacher.softmax(1)).pow(2).mean(1), mask)


def gated_ensemble(members: Tensor, gate: Tensor) -> Tensor:
    """``Σ_m g_m z_m``: logits of members [M, B, K, ...] weighted per example by a gate [B, M]."""
    weights = gate.T.reshape(*members.shape[:2], *[1] * (members.dim() - 2))
    return (weights * members).sum(0)


def dense_cross_entropy(response: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy at every position of class responses [B, K, H, W] against the image's label [B]: [B, H, W]."""
    label = target[:, None, None].expand(-1, *response.shape[2:])
    return F.cross_entropy(response, label, reduction="none")


def pearson_distance(a: Tensor, b: Tensor, dim: int, valid: Tensor | None = None, eps: float = 1e-8) -> Tensor:
    """``1 - Pearson correlation`` of rows or columns, mean over the rest (Huang et al., arXiv:2205.10536, eq. 7).

    Args:
        a: [N, K].
        b: [N, K].
        dim: 1: a correlation over each row; 0: over each column.
        valid: bool [N], which rows count; None: all.
        eps: least norm.
    """
    if valid is None:
        a = a - a.mean(dim, keepdim=True)
        b = b - b.mean(dim, keepdim=True)
        return 1 - F.cosine_similarity(a, b, dim=dim, eps=eps).mean()
    count, rows = valid.sum().clamp_min(1), valid[:, None]
    a, b = a * rows, b * rows
    n = count if dim == 0 else a.shape[1]
    a, b = (x - x.sum(dim, keepdim=True) / n for x in (a, b))
    correlation = F.cosine_similarity(a * rows, b * rows, dim=dim, eps=eps)
    mean = correlation.mean() if dim == 0 else (correlation * valid).sum() / count
    return (1 - mean) * valid.any()


def dist_relations(
    student: Tensor, teacher: Tensor, temperature: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Inter-class and intra-class relation losses of DIST (arXiv:2205.10536, eqs. 8-10), each times T².

    Inter: correlation over the classes of one example (pixel); intra: over the examples (pixels) of one class.

    Args:
        student: logits [B, K] or [B, K, H, W].
        teacher: logits of the same shape.
        temperature: T > 0.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    rows_s = torch.movedim(student, 1, -1).flatten(0, -2).div(temperature).softmax(1)
    rows_t = torch.movedim(teacher, 1, -1).flatten(0, -2).div(temperature).softmax(1)
    valid = None if mask is None else at_size(mask, student.shape[2:]).flatten()
    inter = pearson_distance(rows_s, rows_t, 1, valid)
    intra = pearson_distance(rows_s, rows_t, 0, valid)
    return temperature**2 * inter, temperature**2 * intra
