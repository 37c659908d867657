"""Losses on class logits. Classes lie along dimension 1: [B, K], or [B, K, H, W] for dense predictions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from adm_core.losses.spatial import at_size, masked_mean


def kl_divergence(student: Tensor, teacher: Tensor, temperature: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """``T² KL(softmax(teacher / T) || softmax(student / T))``, mean over examples (and valid positions).

    Hinton et al., arXiv:1503.02531, section 2; the factor T² keeps gradients comparable across temperatures.

    Args:
        student: logits [B, K] or [B, K, H, W].
        teacher: logits of the same shape; detach them to make them a target.
        temperature: T > 0.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.
    """
    return masked_mean(kl_map(student, teacher, temperature), mask)


def kl_map(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """The same divergence per example [B] or per position [B, H, W], not reduced."""
    log_s = F.log_softmax(student / temperature, dim=1)
    log_t = F.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * (log_t.exp() * (log_t - log_s)).sum(1)


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


def decoupled_kl(
    student: Tensor, teacher: Tensor, target: Tensor, alpha: float, beta: float, temperature: float
) -> Tensor:
    """``alpha`` · target-class KD + ``beta`` · non-target-class KD (Zhao et al., arXiv:2203.08679, eq. 7).

    The first is the binary divergence between (p_y, 1 - p_y) of both networks, the second the divergence among
    the other classes renormalised; both carry T². Stays finite for a problem of two classes, where the second
    part is zero.

    Args:
        student: logits [B, K].
        teacher: logits [B, K].
        target: class indices [B].
        alpha: weight of the target-class part.
        beta: weight of the non-target-class part.
        temperature: T > 0.
    """
    log_s = F.log_softmax(student / temperature, dim=1)
    log_t = F.log_softmax(teacher / temperature, dim=1)
    is_target = F.one_hot(target, student.shape[1]).bool()

    def binary(log_p: Tensor) -> Tensor:
        others = log_p.masked_fill(is_target, float("-inf")).logsumexp(1)
        return torch.stack([log_p.gather(1, target[:, None]).squeeze(1), others], dim=1)

    pair_s, pair_t = binary(log_s), binary(log_t)
    target_part = (pair_t.exp() * (pair_t - pair_s)).sum(1).mean()
    rest_s = (log_s - pair_s[:, 1:]).masked_fill(is_target, 0.0)
    rest_t = (log_t - pair_t[:, 1:]).masked_fill(is_target, 0.0)
    weights = rest_t.exp().masked_fill(is_target, 0.0)
    other_part = (weights * (rest_t - rest_s)).sum(1).mean()
    return temperature**2 * (alpha * target_part + beta * other_part)


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


def ensemble_target(student: Tensor, teacher: Tensor, target: Tensor, form: str, mask: Tensor | None = None) -> Tensor:
    """The teaching logits that KDCL makes from two members (Guo et al., CVPR 2020, section 3.2).

    - ``naive``: per example (pixel), the logits of the member with the smaller cross-entropy;
    - ``linear``: the convex combination, one coefficient for the batch, of smallest ensemble cross-entropy;
    - ``min-logit``: each member's logits less its target logit, then the elementwise minimum;
    - ``mean``: the plain mean of logits.

    Args:
        student: logits [B, K] or [B, K, H, W], used as a constant.
        teacher: logits of the same shape, used as a constant.
        target: class indices [B], or [B, ., .] of any size, read at the positions of the logits.
        form: one of the four.
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.

    Returns:
        Detached logits of the same shape.
    """
    s, t = student.detach(), teacher.detach()
    if form == "mean":
        return (s + t) / 2
    if s.dim() == 4:
        target = at_size(target, s.shape[2:])
    if form == "naive":
        better = F.cross_entropy(s, target, reduction="none") < F.cross_entropy(t, target, reduction="none")
        return torch.where(better[:, None], s, t)
    if form == "min-logit":
        index = target[:, None]
        return torch.minimum(s - s.gather(1, index), t - t.gather(1, index))
    return _best_convex(s, t, target, mask)


def _best_convex(s: Tensor, t: Tensor, target: Tensor, mask: Tensor | None, iterations: int = 20) -> Tensor:
    """``a s + (1 - a) t`` with a in [0, 1] of smallest cross-entropy, which is convex in a: bisect its derivative."""
    difference = s - t
    gain = difference.gather(1, target[:, None]).squeeze(1)
    low, high = s.new_zeros(()), s.new_ones(())
    for _ in range(iterations):
        a = (low + high) / 2
        slope = masked_mean(((t + a * difference).softmax(1) * difference).sum(1) - gain, mask)
        low, high = torch.where(slope < 0, a, low), torch.where(slope < 0, high, a)
    return t + (low + high) / 2 * difference
