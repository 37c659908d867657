"""Divergences of class probabilities taken apart: between groups of classes, and within each of them.

Classes lie along dimension 1: [B, K], or [B, K, H, W] for dense predictions; results are [B] or [B, H, W].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from adm_core.losses.logits import NO_MASS


def class_group(logits: Tensor, index: Tensor) -> Tensor:
    """The group of the classes in ``index`` [B, N, ...], as bool of the shape of the logits [B, K, ...]."""
    return torch.zeros_like(logits, dtype=torch.bool).scatter(1, index, True)


def log_mass(log_p: Tensor, group: Tensor) -> Tensor:
    """Logarithm of a group's probability, [B, 1, ...]; about -1e9 where the group is empty.

    Args:
        log_p: log-probabilities [B, K, ...].
        group: bool of the same shape.
    """
    return log_p.masked_fill(~group, NO_MASS).logsumexp(1, keepdim=True)


def two_way(log_p: Tensor, group: Tensor) -> Tensor:
    """Logarithms of the probabilities of a group and of all other classes: [B, 2, ...]."""
    return torch.cat([log_mass(log_p, group), log_mass(log_p, ~group)], dim=1)


def kl_of(log_s: Tensor, log_t: Tensor) -> Tensor:
    """``KL(t || s)`` of log-probabilities [B, N, ...]: [B, ...]."""
    return (log_t.exp() * (log_t - log_s)).sum(1)


def kl_within(log_s: Tensor, log_t: Tensor, mass_s: Tensor, mass_t: Tensor, group: Tensor) -> Tensor:
    """``KL(t || s)`` among the classes of a group, renormalised: [B, ...]; zero where it has fewer than two.

    Args:
        log_s: log-probabilities [B, K, ...].
        log_t: the same of the target.
        mass_s: the group's :func:`log_mass` in ``log_s``.
        mass_t: the same in ``log_t``.
        group: bool of the shape of ``log_s``.
    """
    rest_s = (log_s - mass_s).masked_fill(~group, 0.0)
    rest_t = (log_t - mass_t).masked_fill(~group, 0.0)
    weights = rest_t.exp().masked_fill(~group, 0.0)
    return (weights * (rest_t - rest_s)).sum(1)


def grouped_kl(student: Tensor, teacher: Tensor, group: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """T² times the divergence between a group and the other classes, that within the group, that within the others.

    With one class in the group these are DKD's (arXiv:2203.08679, eq. 7) target part, zero, and its other part.

    Args:
        student: logits [B, K] or [B, K, H, W].
        teacher: logits of the same shape.
        group: bool of the same shape.
        temperature: T > 0.
    """
    log_s, log_t = (F.log_softmax(z / temperature, dim=1) for z in (student, teacher))
    pair_s, pair_t = two_way(log_s, group), two_way(log_t, group)
    parts = (
        kl_of(pair_s, pair_t),
        kl_within(log_s, log_t, pair_s[:, :1], pair_t[:, :1], group),
        kl_within(log_s, log_t, pair_s[:, 1:], pair_t[:, 1:], ~group),
    )
    between, inside, outside = (temperature**2 * part for part in parts)
    return between, inside, outside


def decoupled_map(
    student: Tensor, teacher: Tensor, target: Tensor, alpha: float, beta: float, temperature: float
) -> Tensor:
    """DKD's weighted sum (:func:`decoupled_kl`) per example [B] or per position [B, ...], not reduced.

    Args:
        student: logits [B, K, ...].
        teacher: logits of the same shape.
        target: class indices [B, ...].
        alpha: weight of the target-class part.
        beta: weight of the non-target-class part.
        temperature: T > 0.
    """
    between, _, rest = grouped_kl(student, teacher, class_group(student, target[:, None]), temperature)
    return alpha * between + beta * rest


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
    group = class_group(student, target[:, None])
    between, _, rest = grouped_kl(student, teacher, group, temperature)
    return alpha * between.mean() + beta * rest.mean()


def best_others_kl(student: Tensor, teacher: Tensor, target: Tensor, count: int, temperature: float) -> Tensor:
    """T² times the divergence among the ``count`` classes besides the target's that the teacher ranks highest.

    DKD's other part, :func:`grouped_kl`, where ``count`` is all of them. [B], or [B, H, W].

    Args:
        student: logits [B, K] or [B, K, H, W].
        teacher: logits of the same shape.
        target: class indices [B] or [B, H, W].
        count: from 1 to K - 1; the divergence of one class is zero.
        temperature: T > 0.
    """
    log_s, log_t = (F.log_softmax(z / temperature, dim=1) for z in (student, teacher))
    others = teacher.masked_fill(class_group(teacher, target[:, None]), -math.inf)
    best = class_group(student, others.topk(count, dim=1).indices)
    return temperature**2 * kl_within(log_s, log_t, log_mass(log_s, best), log_mass(log_t, best), best)


def confidence_kl(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """T² times the divergence of (p_s,y, 1 - p_s,y) from (m_t, 1 - m_t), m_t the teacher's highest probability.

    Whichever class that is of: the sample confidence distillation of RLD (Sun et al., arXiv:2408.07703).

    Args:
        student: logits [B, K] or [B, K, H, W].
        teacher: logits of the same shape.
        target: class indices [B] or [B, H, W].
        temperature: T > 0.
    """
    log_s, log_t = (F.log_softmax(z / temperature, dim=1) for z in (student, teacher))
    own = two_way(log_s, class_group(student, target[:, None]))
    best = two_way(log_t, class_group(teacher, teacher.argmax(1, keepdim=True)))
    return temperature**2 * kl_of(own, best)


def lower_ranked_kl(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """T² times the divergence among the classes to which the teacher gives a lower logit than to the target's.

    The masked correlation distillation of RLD (Sun et al., arXiv:2408.07703); zero where there are none.

    Args:
        student: logits [B, K] or [B, K, H, W].
        teacher: logits of the same shape.
        target: class indices [B] or [B, H, W].
        temperature: T > 0.
    """
    log_s, log_t = (F.log_softmax(z / temperature, dim=1) for z in (student, teacher))
    lower = teacher < teacher.gather(1, target[:, None])
    return temperature**2 * kl_within(log_s, log_t, log_mass(log_s, lower), log_mass(log_t, lower), lower)


def local_kl(student: Tensor, teacher: Tensor, count: int, decay: float, temperature: float) -> tuple[Tensor, Tensor]:
    """LDRLD's divergences among the student's best classes, and among all others (Xu et al., arXiv:2507.15911).

    The first is the mean over all pairs of the ``count`` best classes and the set of them all, each renormalised. The
    pair of ranks r < r', from 1, weighs ``2 exp(-decay (r + r')) / (1.5 + r' - r)``, the set 1. Both carry T².

    Args:
        student: logits [B, K] or [B, K, H, W]; their order is used as a constant.
        teacher: logits of the same shape.
        count: best classes, at least 2.
        decay: how fast the weight of a pair falls with its ranks.
        temperature: T > 0.
    """
    log_s, log_t = (F.log_softmax(z / temperature, dim=1) for z in (student, teacher))
    best = student.detach().topk(count, dim=1).indices
    top_s, top_t = log_s.gather(1, best), log_t.gather(1, best)
    first, second = torch.triu_indices(count, count, 1, device=best.device)
    pairs = [torch.stack([top[:, first], top[:, second]], 1).log_softmax(1) for top in (top_s, top_t)]
    weight = 2 * (-decay * (first + second + 2)).exp() / (1.5 + second - first)
    each = kl_of(*pairs) * weight.view(1, -1, *[1] * (student.dim() - 2))
    whole = kl_of(top_s.log_softmax(1), top_t.log_softmax(1))
    others = ~class_group(student, best)
    rest = kl_within(log_s, log_t, log_mass(log_s, others), log_mass(log_t, others), others)
    return temperature**2 * (each.sum(1) + whole) / (len(first) + 1), temperature**2 * rest
