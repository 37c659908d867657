"""One batch of a task's data, as every part of the core sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """What both networks are fed in one step.

    Attributes:
        student_input: the student's input, [B, C, H, W].
        teacher_input: the teacher's input; the same tensor unless the method asks for views of its own.
        target: what the prediction is held against, e.g. class indices [B].
        index: positions of the examples in the training set, int64 [B].
    """

    student_input: Tensor
    teacher_input: Tensor
    target: Tensor
    index: Tensor
