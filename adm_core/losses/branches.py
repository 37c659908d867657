"""What methods on branches of one network have in common."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from adm_core.losses.spatial import masked_mean
from adm_core.view import View


def task_losses(branches: Sequence[View], mask: Tensor | None) -> dict[str, Tensor]:
    """The mean task loss of every branch but the first, whose is the student's own: ``branch2``, ``branch3``, ...

    Args:
        branches: what they show.
        mask: bool [B, ., .], true where a position counts; None: everywhere.
    """
    return {f"branch{n}": masked_mean(view.task_loss, mask) for n, view in enumerate(branches[1:], start=2)}
