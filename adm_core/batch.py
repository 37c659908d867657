"""One batch of a task's data, as every part of the core sees it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from adm_core.noising import Noising


@dataclass(frozen=True)
class Batch:
    """What both networks are fed in one step.

    Attributes:
        student_input: the student's input, [B, C, H, W].
        teacher_input: the teacher's input; the same tensor unless the method asks for views of its own.
        target: what the prediction is held against, e.g. class indices [B] or [B, H, W], noise [B, C, H, W].
        index: positions of the examples in the training set, int64 [B].
        mask: bool [B, H, W], true where the target is valid; None: everywhere.
        conditions: what both networks are given beside the input, in the order of their forward's arguments, [B, ...]
            each: a denoiser's timestep, then perhaps a class.
        noising: how noisy inputs came about; None where they are not noisy.
    """

    student_input: Tensor
    teacher_input: Tensor
    target: Tensor
    index: Tensor
    mask: Tensor | None = None
    conditions: tuple[Tensor, ...] = ()
    noising: Noising | None = None

    def chunks(self, count: int) -> Iterator[Batch]:
        """The batch in ``count`` equal parts, for gradient accumulation; itself when count is 1."""
        if count == 1:
            yield self
            return
        students, targets = self.student_input.chunk(count), self.target.chunk(count)
        teachers = students if self.student_input is self.teacher_input else self.teacher_input.chunk(count)
        none = [None] * len(students)
        masks = none if self.mask is None else self.mask.chunk(count)
        conditions = zip(*(given.chunk(count) for given in self.conditions), strict=True)
        given = list(conditions) if self.conditions else [()] * len(students)
        noisings = none if self.noising is None else self.noising.chunk(count)
        index = self.index.chunk(count)
        for parts in zip(students, teachers, targets, index, masks, given, noisings, strict=True):
            yield Batch(*parts)

    @property
    def levels(self) -> int:
        """Timesteps of the noise schedule, T; 0 where inputs are not noisy."""
        return len(self.noising.process) if self.noising else 0

    def at_timestep(self, timestep: Tensor) -> Batch:
        """The same examples under the same noise at other timesteps, int64 [B]; for batches of noisy inputs only."""
        if self.noising is None:
            raise ValueError("a batch whose inputs are not noisy has no timesteps")
        noising = replace(self.noising, timestep=timestep)
        return noisy_batch(noising, self.index)


def noisy_batch(noising: Noising, index: Tensor) -> Batch:
    """The batch of noisy examples, the same for both networks, that a noising makes; ``index`` as in :class:`Batch`."""
    noisy = noising.noisy
    conditions = noising.conditions(noising.timestep)
    return Batch(noisy, noisy, noising.target, index, conditions=conditions, noising=noising)
