"""One batch of a task's data, as every part of the core sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from adm_core.errors import AdmError

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
        extra_input: a second, stronger augmentation of the examples, the same for all networks; None unless the method
            asks for it.
        unlabelled_input: as many further pictures, whose labels nobody sees, the same for all networks; None unless the
            method asks for them.
        peer_inputs: those of ``peer1``, ``peer2``, ..., where every network has a view of its own; empty: they get the
            student's.
    """

    student_input: Tensor
    teacher_input: Tensor
    target: Tensor
    index: Tensor
    mask: Tensor | None = None
    conditions: tuple[Tensor, ...] = ()
    noising: Noising | None = None
    extra_input: Tensor | None = None
    unlabelled_input: Tensor | None = None
    peer_inputs: tuple[Tensor, ...] = ()

    def chunks(self, count: int) -> Iterator[Batch]:
        """The batch in ``count`` equal parts, for gradient accumulation; itself when count is 1."""
        if count == 1:
            yield self
            return
        shared = self.student_input is self.teacher_input
        parts = {field.name: _chunks(getattr(self, field.name), count) for field in fields(self)}
        for values in zip(*parts.values(), strict=True):
            part = Batch(**dict(zip(parts, values, strict=True)))
            yield replace(part, teacher_input=part.student_input) if shared else part

    def input_of(self, role: str) -> Tensor:
        """What a network is fed: the teacher its own input, every other the student's unless peers have their own."""
        if role == "teacher":
            return self.teacher_input
        own = self.peer_inputs and role != "student"
        return self.peer_inputs[int(role.removeprefix("peer")) - 1] if own else self.student_input

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


@dataclass(frozen=True)
class Share:
    """Which micro-batches of a step are one process's.

    Attributes:
        rank: of the process, from 0.
        count: of all processes.
        parts: micro-batches in a step, a multiple of ``count``.
    """

    rank: int = 0
    count: int = 1
    parts: int = 1

    @property
    def own(self) -> range:
        """The numbers of its micro-batches."""
        each = self.parts // self.count
        return range(self.rank * each, (self.rank + 1) * each)

    def of(self, batch: Batch) -> Batch:
        """Its examples of a whole batch.

        Raises:
            AdmError: the batch does not fall into equal parts.
        """
        if self.count == 1:
            return batch
        self._check(len(batch.index))
        return list(batch.chunks(self.count))[self.rank]

    def cut(self, wanted: Sequence[Any], batch_size: int) -> tuple[Sequence[Any], int]:
        """Its examples of those of whole batches, one after the other; and how many it has of a batch.

        Raises:
            AdmError: a batch does not fall into equal parts.
        """
        if self.count == 1:
            return wanted, batch_size
        self._check(batch_size)
        each = batch_size // self.count
        starts = range(self.rank * each, len(wanted), batch_size)
        return [example for start in starts for example in wanted[start : start + each]], each

    def _check(self, examples: int) -> None:
        if examples % self.parts:
            raise AdmError(
                f"a batch of {examples} examples does not fall into {self.parts} equal micro-batches that {self.count} "
                "processes could share; train the cell by one"
            )


WHOLE = Share()
"""Of one process that trains a cell alone."""


def noisy_batch(noising: Noising, index: Tensor) -> Batch:
    """The batch of noisy examples, the same for both networks, that a noising makes; ``index`` as in :class:`Batch`."""
    noisy = noising.noisy
    conditions = noising.conditions(noising.timestep)
    return Batch(noisy, noisy, noising.target, index, conditions=conditions, noising=noising)


def _chunks(value: Any, count: int) -> list[Any]:
    """A field of a batch in equal parts: a tensor, a noising, a tuple of tensors, or nothing."""
    if value is None or value == ():
        return [value] * count
    if isinstance(value, tuple):
        return list(zip(*(item.chunk(count) for item in value), strict=True))
    return list(value.chunk(count))
