"""Targets that the label corrects where a teacher is wrong. Classes lie along dimension 1: [B, K] or [B, K, H, W]."""

from __future__ import annotations

import torch
from torch import Tensor

from adm_core.losses.logits import kl_map, masked_cross_entropy
from adm_core.losses.partitions import class_group
from adm_core.losses.spatial import at_size, masked_mean


def swapped(logits: Tensor, target: Tensor) -> Tensor:
    """Logits with the highest one and the label's exchanged: label augmentation (Wen et al., arXiv:1911.07471).

    Args:
        logits: [B, K, ...].
        target: class indices [B, ...].
    """
    label = target[:, None]
    best = logits.max(1, keepdim=True)
    return logits.scatter(1, best.indices, logits.gather(1, label)).scatter(1, label, best.values)


def self_review(student: Tensor, target: Tensor, temperature: float) -> Tensor:
    """T² times the divergence from the student's own logits with the label's raised by their maximum, a constant.

    Args:
        student: logits [B, K, ...].
        target: class indices [B, ...].
        temperature: T > 0.

    Returns:
        [B, ...].
    """
    own, label = student.detach(), target[:, None]
    raised = own.scatter(1, label, own.gather(1, label) + own.amax(1, keepdim=True))
    return kl_map(student, raised, temperature)


def revised(probabilities: Tensor, target: Tensor, eta: float) -> Tensor:
    """``β p + (1 - β) one-hot(y)``, ``β = η / (max p - p_y + 1)``, of probabilities [B, K, ...] (arXiv:2404.03693)."""
    label = target[:, None]
    beta = eta / (probabilities.amax(1, keepdim=True) - probabilities.gather(1, label) + 1)
    return beta * probabilities + (1 - beta) * class_group(probabilities, label)


def label_revision(student: Tensor, teacher: Tensor, target: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """Where the teacher is right ``CE + 4 MSE(z_s, z_t)``, elsewhere ``MSE(p_s, revised p_t)`` with η = 0.8.

    Each is a mean over its own examples or positions, and zero where there are none. The form that RLD's authors
    compare with (arXiv:2408.07703).

    Args:
        student: logits [B, K] or [B, K, H, W].
        teacher: logits of the same shape, used as a constant.
        target: class indices [B] or [B, H, W].
        mask: bool [B, ., .] of any size, true where a position counts; None: everywhere.

    Returns:
        Terms ``task``, ``right`` and ``wrong``.
    """
    teacher = teacher.detach()
    valid = torch.ones_like(target, dtype=torch.bool) if mask is None else at_size(mask, target.shape[1:])
    right = teacher.argmax(1) == target
    logit_error = (student - teacher).pow(2).mean(1)
    error = (student.softmax(1) - revised(teacher.softmax(1), target, 0.8)).pow(2).mean(1)
    return {
        "task": masked_cross_entropy(student, target, right & valid),
        "right": 4.0 * masked_mean(logit_error, right & valid),
        "wrong": masked_mean(error, ~right & valid),
    }
