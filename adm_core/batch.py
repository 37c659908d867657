"""One batch of a task's data, as every part of the core sees it."""

from __future__ import annotations

from collections.abc import Iterator
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
        target: what the prediction is held against, e.g. class indices [B] or [B, H, W].
        index: positions of the examples in the training set, int64 [B].
        mask: bool [B, H, W], true where the target is valid; None: everywhere.
    """

    student_input: Tensor
    teacher_input: Tensor
    target: Tensor
    index: Tensor
    mask: Tensor | None = None

    def chunks(self, count: int) -> Iterator[Batch]:
        """The batch in ``count`` equal parts, for gradient accumulation; itself when count is 1."""
        if count == 1:
            yield self
            return
        students, targets = self.student_input.chunk(count), self.target.chunk(count)
        teachers = students if self.student_input is self.teacher_input else self.teacher_input.chunk(count)
        masks = [None] * len(students) if self.mask is None else self.mask.chunk(count)
        for parts in zip(students, teachers, targets, self.index.chunk(count), masks, strict=True):
            yield Batch(*parts)
