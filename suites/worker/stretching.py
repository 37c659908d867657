"""Training made longer: by a factor, or until it costs what the dearest method of a table costs."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path

import torch

from adm_core import freed_memory
from adm_core.compute import training_flops
from adm_core.errors import AdmError, Unsupported
from adm_core.recipe import Protocol
from adm_core.train import Trainer
from adm_files import replacing
from results.records.identity import digest
from results.records.schema import Cell, Stretched
from suites.spec.code import code_of
from suites.spec.method_settings import method_of
from suites.work.folder import ARTEFACTS
from suites.work.options import RunOptions
from suites.worker.opening import initial_networks, know_teacher, make_distiller, open_task


def stretched(
    cell: Cell, protocol: Protocol, device: torch.device, options: RunOptions
) -> tuple[Protocol, Stretched | None]:
    """The protocol by which a cell trains, and what its stretch came to; the given one where it has none.

    Args:
        cell: with or without ``stretch``.
        protocol: the one whose digest it holds.
        device: where networks live.
        options: data roots and the store, which keeps what was counted.

    Raises:
        Unsupported: it is to match methods none of which can run on its networks.
        AdmError: one of them could run and cannot be trained so; says which, and why.
    """
    if cell.stretch is None:
        return protocol, None
    factor, dearest = cell.stretch.factor, None
    if factor is None:
        own = _flops(cell, protocol, device, options)
        each = _flops_of_each(cell, protocol, device, options)
        if not each:
            raise Unsupported(f"none of the {len(cell.stretch.match)} methods that it is to match runs on {cell.pair}")
        dearest = max(each, key=lambda name: each[name])
        factor = max(each[dearest] / own, 1.0)
        gc.collect()  # trainers of every method, which refer to themselves; the cell's own peak would be theirs
        freed_memory.give_back()
    recipe = protocol.recipe.stretched(factor)
    told = Stretched(factor=factor, epochs=recipe.epochs, dearest=dearest)
    return protocol.model_copy(update={"recipe": recipe}), told


def _flops_of_each(cell: Cell, protocol: Protocol, device: torch.device, options: RunOptions) -> dict[str, float]:
    """Method to the operations of its training step, of those that a cell matches and that run on its networks."""
    found = {}
    for parts in cell.stretch.match if cell.stretch else ():
        other = cell.model_copy(update={"method": parts, "stretch": None})
        try:
            found[other.method_name] = _flops(other, protocol, device, options)
        except Unsupported:  # its own row says why
            continue
        except AdmError as error:
            raise AdmError(
                f"'{other.method_name}', which its training is to match, cannot be trained: {error}"
            ) from error
    return found


def flops_of(cell: Cell, store: Path, ready: Callable[[], Trainer]) -> float:
    """Operations of a cell's training step per example; counted once for all its seeds and stretches.

    Args:
        cell: what trains.
        store: keeps what was counted.
        ready: gives its trainer, which is good for nothing else afterwards.
    """
    science = cell.model_dump(mode="json", exclude={"seed", "stretch", "protocol"})
    file = store / ARTEFACTS / "training-flops" / f"{digest(science | {'code': code_of(cell)})}.json"
    if (known := _read(file)) is not None:
        return known
    trainer = ready()
    flops = training_flops(trainer, next(iter(trainer.task.batches(0, 0)))) / trainer.recipe.batch_size
    with replacing(file) as new:
        new.write_text(json.dumps(flops), encoding="utf-8")
    return flops


def _flops(cell: Cell, protocol: Protocol, device: torch.device, options: RunOptions) -> float:
    """Those of a cell that does not train here."""

    def ready() -> Trainer:
        method = method_of(cell)
        task = open_task(cell, protocol, device, options, method.needs)
        networks, identity = initial_networks(cell, task, options)
        distiller = make_distiller(cell, task, method, networks, options.files)
        know_teacher(cell, task, method, distiller, identity, options.store)
        return Trainer(distiller, task, protocol.recipe, cell.seed)

    return flops_of(cell, options.store, ready)


def _read(file: Path) -> float | None:
    """What was counted before; None where there is no such file, or a damaged one."""
    try:
        return float(json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
