"""Trains the cells of a group in lockstep, and scores each of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from adm_core.errors import Stopped
from adm_core.lockstep import Lockstep
from adm_core.shared_teacher import share_teachers
from adm_core.task import Task
from suites.worker.opening import Teacher, initial_teacher, open_task, pick_device
from suites.worker.stopping import asked
from suites.worker.training import Given, Ready, checked_method, make_ready, score

Conclude = Callable[[str, "dict[str, Any] | Exception"], None]
"""Is told of one cell, by name, what :func:`suites.worker.training.train_cell` returns or raises."""


@dataclass(frozen=True)
class _Shared:
    task: Task
    teacher: Teacher
    seconds: float


def train_cells(cells: Mapping[str, Given], conclude: Conclude) -> None:
    """Train cells, each from its checkpoint if there is one, and score each on the test split.

    Args:
        cells: by name, all of one :func:`suites.spec.grouping.key_of`.
        conclude: called as soon as a cell is done or has failed; a failure leaves the others.

    Raises:
        Stopped: this process was asked to end; of the cells that are not concluded there are checkpoints.
    """
    try:
        shared = _open(next(iter(cells.values())))
    except Exception as error:
        for name in cells:
            conclude(name, error)
        return
    ready: dict[str, Ready] = {}
    for name, given in cells.items():
        try:
            ready[name] = _make_ready(given, shared)
            # Now, so that there is never more than one copy of the teacher too many.
            share_teachers([each.trainer.distiller for each in ready.values()])
        except Exception as error:
            conclude(name, error)
    if ready:
        _train(ready, conclude)


def _open(given: Given) -> _Shared:
    """What all have in common, made with the first one's cell."""
    began, cell, recipe = time.perf_counter(), given.cell, given.protocol.recipe
    device = pick_device(given.options.device, recipe.precision, recipe.kernels)
    task = open_task(cell, given.protocol, device, given.options, checked_method(cell).needs)
    teacher = initial_teacher(cell, task, given.options)
    return _Shared(task, teacher, time.perf_counter() - began)


def _make_ready(given: Given, shared: _Shared) -> Ready:
    """A member; the time until its first step is that of a cell alone, which would have opened the rest itself."""
    began = time.perf_counter() - shared.seconds
    return make_ready(given, checked_method(given.cell), shared.task, began, shared.teacher)


def _train(ready: dict[str, Ready], conclude: Conclude) -> None:
    """Train members to the end and score them one after the other; ``ready`` is emptied."""
    members = len(ready)

    def failed(name: str, error: Exception) -> None:
        del ready[name]
        conclude(name, error)

    for name in Lockstep({name: each.trainer for name, each in ready.items()}, failed, asked.is_set).run():
        if asked.is_set():
            for each in ready.values():
                each.trainer.save()
            raise Stopped(f"stopped before {len(ready)} of {members} trained cells were scored, with checkpoints")
        conclude(name, _scored(ready.pop(name), members))


def _scored(ready: Ready, members: int) -> dict[str, Any] | Exception:
    """What is left of a trained member, or why there is nothing."""
    try:
        trained = ready.trainer.trained()
        made = score(ready, trained)
    except Exception as error:
        return error
    if members > 1:
        made["cost"]["group"] = {"members": members, "shared_s": trained.shared}
    return made
