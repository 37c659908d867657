"""Distances between whole predictions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


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
