"""Several students trained in lockstep: one stream of batches, one forward pass of the frozen teacher for all.

Every member has its own student, method, optimiser, random streams, checkpoint and curves, and ends with the weights
that it would have alone; to the bit where the device computes alike each time, as a CPU does. A member that fails is
left out, and the others go on.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor

from adm_core import train
from adm_core.batch import Batch
from adm_core.compiling import begin_step
from adm_core.errors import AdmError, Stopped
from adm_core.meter import Span, TurnMeter
from adm_core.seeds import derive
from adm_core.shared_teacher import SharedTeacher, share_teachers
from adm_core.show import Shown
from adm_core.train import Trainer, autocast

_DATA, _NOBODY = "data", ""
_WATCHED_STEPS = 2
"""Steps of a phase in which memory is looked at: optimisers allocate in the first."""


@dataclass(eq=False)
class _Member:
    name: str
    trainer: Trainer
    teacher: SharedTeacher | None = None
    watched: dict[str, int] = field(default_factory=dict)
    peak_mb: float | None = None

    @property
    def step(self) -> int:
        return self.trainer.progress.step

    @property
    def epochs(self) -> int:
        return self.trainer.progress.epochs


class Lockstep:
    """Drives trainers on one stream of batches, to the end of their recipe.

    Args:
        trainers: by name; offline, of one task, recipe and seed.
        failed: is told which member failed, and how; the member's memory is given back after that.
        asked_to_stop: looked at after each step of all; once it is true, checkpoints are kept and :class:`Stopped`
            raised.

    Raises:
        AdmError: the trainers' recipes, seeds or lengths differ.
    """

    def __init__(
        self,
        trainers: Mapping[str, Trainer],
        failed: Callable[[str, Exception], None],
        asked_to_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        # No trainer is kept but by its member, so that what a failed one holds is given back.
        first = next(iter(trainers.values()))
        self._task, self._recipe, self._seed, self._device = first.task, first.recipe, first.seed, first.device
        self._per_epoch = first.task.steps_per_epoch
        for name, trainer in trainers.items():
            theirs = (trainer.recipe, trainer.seed, trainer.task.steps_per_epoch)
            if theirs != (self._recipe, self._seed, self._per_epoch):
                raise AdmError(f"'{name}' trains by another recipe, seed or number of steps than the group's first")
            trainer.pace.share /= len(trainers)
        teachers = share_teachers([trainer.distiller for trainer in trainers.values()])
        pairs = zip(trainers.items(), teachers, strict=True)
        self._members = [_Member(name, trainer, teacher) for (name, trainer), teacher in pairs]
        self._failed, self._asked_to_stop = failed, asked_to_stop
        self._meter = TurnMeter(self._device)

    def run(self) -> list[str]:
        """Train all to the end, each from its checkpoint if there is one; those who stand further wait.

        Returns:
            The names of those that have come to the end.

        Raises:
            Stopped: it was asked to; there are checkpoints to go on from.
        """
        self._each(self._members, lambda member: member.trainer.resume())
        epochs = self._recipe.epochs
        while (epoch := min((member.epochs for member in self._members), default=epochs)) < epochs:
            start = min(member.step for member in self._at(epoch)) - epoch * self._per_epoch
            if start < self._per_epoch:  # else they were stopped between the epoch's last step and its end
                self._train_epoch(epoch, start)
            for member in self._at(epoch):
                self._each([member], lambda member, epoch=epoch: member.trainer.end_epoch(epoch + 1))  # type: ignore[misc]
                if self._asked_to_stop():  # to evaluate all of a large group may take long
                    self._stop(epoch)
        return [member.name for member in self._members]

    def _train_epoch(self, epoch: int, start: int) -> None:
        self._each(self._at(epoch), lambda member: member.trainer.distiller.train())
        self._meter.begin()
        for number, batch in enumerate(self._batches(epoch, start), epoch * self._per_epoch + start):
            self._meter.turn(_DATA)
            self._step(batch, number)
            stop = self._asked_to_stop()
            due = any(member.trainer.is_due() for member in self._members)
            if stop or due or (number + 1) % train.CHECK_EVERY == 0:
                self._each(self._at(epoch), lambda member: member.trainer.check())
                self._meter.turn(_NOBODY)
            if stop or due:
                self._end_span()
            if stop:
                self._stop(epoch)
            if due:
                self._save()
                self._meter.begin()
            if not self._at(epoch):
                return
        self._each(self._at(epoch), lambda member: member.trainer.check())
        self._end_span()

    def _save(self) -> None:
        self._each(self._members, lambda member: member.trainer.save())

    def _stop(self, epoch: int) -> NoReturn:
        self._save()
        raise Stopped(f"stopped in epoch {epoch + 1} of {self._recipe.epochs}, with checkpoints")

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The stream; without it all fail alike."""
        try:
            yield from self._task.batches(epoch, start)
        except Exception as error:
            self._drop(list(self._members), error)

    def _step(self, batch: Batch, number: int) -> None:
        """The step of those that have not taken it."""
        due = [member for member in self._members if member.step == number]
        if self._recipe.compile:
            begin_step()
        shown: dict[SharedTeacher | None, list[Shown]] = {None: []}
        for teacher in dict.fromkeys(member.teacher for member in due if member.teacher):
            try:
                shown[teacher] = self._show(teacher, batch, number)
            except Exception as error:
                self._drop([member for member in due if member.teacher is teacher], error)
            self._meter.turn(teacher)
        taking = [member for member in due if member in self._members]
        self._each(taking, lambda member: self._take(member, batch, shown[member.teacher]))

    def _show(self, teacher: SharedTeacher, batch: Batch, number: int) -> list[Shown]:
        """What a teacher shows on each micro-batch of a step."""
        seed = derive(self._seed, "method", number)
        chunks = batch.chunks(self._recipe.accumulate)
        with autocast(self._device, self._recipe):
            return [teacher.show(chunk, derive(seed, part)) for part, chunk in enumerate(chunks)]

    def _take(self, member: _Member, batch: Batch, shown: Sequence[Shown]) -> None:
        """A member's step; in the first ones of a phase its memory is looked at as well."""
        trainer, phase = member.trainer, member.trainer.distiller.phase
        watch = member.watched.get(phase, 0) < _WATCHED_STEPS
        if watch:
            self._meter.watch()
            self._meter.turn(_NOBODY)
        trainer.step(batch, shown)
        self._meter.turn(member)
        peak = self._meter.peak() if watch else None
        if watch:
            member.watched[phase] = member.watched.get(phase, 0) + 1
        if peak is not None:
            others = sum(_held_mb(other.trainer) for other in self._members if other is not member)
            member.peak_mb = max(member.peak_mb or 0.0, peak - others)
            self._meter.turn(_NOBODY)

    def _end_span(self) -> None:
        """Tell each member what the span would have taken it alone, and how much of that was spent once for all."""
        own: dict[_Member, list[float]] = {member: [] for member in self._members}
        together = dict.fromkeys(own, 0.0)
        shared: dict[Hashable, float] = {}
        for whose, took in self._meter.end():
            if whose == _DATA:
                shared = {None: took}
            elif isinstance(whose, SharedTeacher):
                shared[whose] = took
            elif isinstance(whose, _Member) and whose in own:
                part = shared[None] + (shared[whose.teacher] if whose.teacher else 0.0)
                own[whose].append(took + part)
                together[whose] += part
        for member, steps in own.items():
            if steps:
                span = Span(sum(steps) / 1000, steps, member.peak_mb, together[member] / 1000)
                member.trainer.progress.took(span)

    def _at(self, epoch: int) -> list[_Member]:
        """The members that have not ended an epoch, counted from 0, which those before have."""
        return [member for member in self._members if member.epochs == epoch]

    def _each(self, members: Iterable[_Member], do: Callable[[_Member], Any]) -> None:
        """Let each member do something; who fails is left out."""
        for member in list(members):
            try:
                do(member)
            except Exception as error:
                self._drop([member], error)

    def _drop(self, members: Sequence[_Member], error: Exception) -> None:
        """Go on without some members, and without what they hold."""
        self._members = [member for member in self._members if member not in members]
        for member in members:
            del member.trainer
        for member in members:
            self._failed(member.name, error)
        _clear(error)
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _clear(error: BaseException | None) -> None:
    """Let go of what the frames hold that an error came through."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _held_mb(trainer: Trainer) -> float:
    """MiB that a trainer holds between steps: weights, buffers, states of optimisers, averages, the best weights."""
    tensors: list[Any] = [*trainer.distiller.parameters(), *trainer.distiller.buffers()]
    for optimizer in trainer.optimizers:
        tensors += [value for state in optimizer.state.values() for value in state.values()]
    tensors += trainer.averages.tensors()
    for best in (trainer.best_state or {}).values():
        tensors += best.values()
    return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, Tensor)) / 2**20
