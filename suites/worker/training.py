"""Trains and scores one cell: where a task, a method and the training loop meet."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from adm_core.compose import parts_of
from adm_core.errors import AdmError
from adm_core.method import Method
from adm_core.progress import Trained
from adm_core.ranks import Ranks
from adm_core.recipe import Protocol
from adm_core.taps import Network
from adm_core.task import Task
from adm_core.train import Trainer
from adm_files import copy_mode
from results.records.schema import Cell, Stretched
from suites.spec.code import code_of
from suites.spec.method_settings import method_of
from suites.work.folder import CHECKPOINT, EXPORT, TEACHER_WEIGHTS, WEIGHTS, finite
from suites.work.options import RunOptions
from suites.worker.opening import Teacher, initial_networks, know_teacher, make_distiller, open_task, pick_device
from suites.worker.provenance import environment
from suites.worker.stopping import asked
from suites.worker.stretching import flops_of, stretched
from suites.worker.weights import check_savable, save_weights
from tasks import catalogue


def train_cell(
    cell: Cell,
    protocol: Protocol,
    work: Path,
    options: RunOptions,
    report: Callable[[dict[str, Any]], None],
    meet: Callable[[torch.device], Ranks] = lambda _: Ranks(),
) -> dict[str, Any]:
    """Train one cell, from its checkpoint if there is one, and score it on the test split.

    Args:
        cell: what to train.
        protocol: the recipe whose digest the cell holds.
        work: the cell's work folder, for the checkpoint and the trained weights.
        options: device, data roots and the store.
        report: called with the progress after each epoch.
        meet: waits on the device for the processes that train the cell together, of which this is one.

    Returns:
        The parts of a record that training decides: scores, primary, curves, weights, teacher, cost, capabilities,
        data_digest, environment; and the remark that it started over, where it did. Nothing where another process of
        those that train the cell together scores it.

    Raises:
        AdmError: missing data, missing or damaged teacher weights, a broken method, a network that cannot be saved.
        Unsupported: the method cannot run on this pair; the message is the reason.
        Diverged: a loss is not finite.
        Stopped: this process was asked to end.
        Parted: another of the processes has ended.
    """
    began = time.perf_counter()
    device = pick_device(options.device, protocol.recipe.precision, protocol.recipe.kernels)
    method, ranks = checked_method(cell), meet(device)
    protocol, longer = stretched(cell, protocol, device, options)
    task = open_task(cell, protocol, device, options, method.needs)
    ready = make_ready(Given(cell, protocol, work, options, report, longer, ranks), method, task, began)
    trained = ready.trainer.run()
    return score(ready, trained) if ranks.is_first else {}


@dataclass(frozen=True)
class Given:
    """What a worker is given of one cell, as :func:`train_cell` takes it.

    Attributes:
        protocol: by which it trains, stretched where the cell is.
        stretched: what its stretch came to.
        ranks: the processes that train it together.
    """

    cell: Cell
    protocol: Protocol
    work: Path
    options: RunOptions
    report: Callable[[dict[str, Any]], None]
    stretched: Stretched | None = None
    ranks: Ranks = field(default_factory=Ranks)


@dataclass(frozen=True)
class Ready:
    """A cell that can be trained.

    Attributes:
        teacher: identity of a frozen one.
        setup_s: seconds that it took to get here.
    """

    given: Given
    trainer: Trainer
    teacher: dict[str, Any] | None
    setup_s: float


def checked_method(cell: Cell) -> Method:
    """The cell's method, of the version that the cell asks for.

    Raises:
        AdmError: here it is of another.
    """
    method = method_of(cell)
    _check_versions(cell, method)
    return method


def make_ready(given: Given, method: Method, task: Task, began: float, teacher: Teacher | None = None) -> Ready:
    """Make a cell's networks and all that trains them, on a task that was opened for it.

    Args:
        given: the cell, and how it trains.
        method: the cell's.
        task: opened with what the method needs.
        began: when this cell's preparations did, on :func:`time.perf_counter`.
        teacher: the cell's, where there is one already; None: it is made here.
    """
    cell, work, options = given.cell, given.work, given.options
    networks, identity = initial_networks(cell, task, options, teacher)
    distiller = make_distiller(cell, task, method, networks, options.files)
    know_teacher(cell, task, method, distiller, identity, options.store)
    deployed = distiller.deployed(distiller.networks)
    check_savable(task, deployed["student"], work, deployed["teacher"] if cell.regime == "online" else None)
    keep = (work / CHECKPOINT, options.checkpoint_seconds, given.report, asked.is_set)
    trainer = Trainer(distiller, task, given.protocol.recipe, cell.seed, *keep, code_of(cell), given.ranks)
    return Ready(given, trainer, identity, time.perf_counter() - began)


def score(ready: Ready, trained: Trained) -> dict[str, Any]:
    """Score what training has left, save it, and count what it took; the last use of the trainer.

    Returns:
        What :func:`train_cell` does.
    """
    began = time.perf_counter()
    given, trainer = ready.given, ready.trainer
    cell, work, task = given.cell, given.work, trainer.task
    scores = task.evaluate(trained.networks, "test")
    weights = {"student": save_weights(trained.networks["student"], work / WEIGHTS)}
    if cell.regime == "online":
        weights["teacher"] = save_weights(trained.networks["teacher"], work / TEACHER_WEIGHTS)
    task.export(trained.networks["student"], work / EXPORT)
    copy_mode(work / WEIGHTS, work / EXPORT)
    times = {"setup_s": ready.setup_s, "eval_s": time.perf_counter() - began}
    return {
        "scores": finite(scores),
        "primary": _primary(task, given.protocol),
        "curves": finite(_epoch_first(trained)),
        "weights": weights,
        "teacher": _scored(ready.teacher, scores.get("teacher", {}).get(task.metric)),
        "cost": times | dict(task.costs) | _cost(cell, trainer, trained, given.options.store),
        "stretched": given.stretched and given.stretched.model_dump(),
        "noisy_labels": dict(task.noise) or None,
        "capabilities": sorted(trainer.distiller.method.capabilities(cell.regime)),
        "data_digest": task.data_digest(),
        "environment": environment(
            trainer.device, given.protocol.recipe, catalogue.offer(cell.task).libraries, given.ranks.count
        ),
        "remark": trainer.remark,
    }


def _scored(identity: dict[str, Any] | None, score: float | None) -> dict[str, Any] | None:
    """The identity with a score: that of a teacher from elsewhere is taken here, beside the student's."""
    return identity if identity is None or "score" in identity else identity | {"score": finite(score)}


def _primary(task: Task, protocol: Protocol) -> dict[str, Any]:
    """Which score ranks, as a record tells it."""
    return {
        "metric": task.metric,
        "higher_is_better": task.higher_is_better,
        "unit": task.unit,
        "selection": protocol.recipe.selection,
    }


def _check_versions(cell: Cell, method: Method) -> None:
    for part, now in zip(cell.method, parts_of(method), strict=True):
        if part.version != now.card.version:
            raise AdmError(f"method '{part.name}' is version {now.card.version} here, the cell asks for {part.version}")


def _epoch_first(trained: Trained) -> dict[str, list[float | None]]:
    return {"epoch": trained.curves.get("epoch", [])} | trained.curves


def _cost(cell: Cell, trainer: Trainer, trained: Trained, store: Path) -> dict[str, Any]:
    """What training took; the last use of the trainer."""
    distiller, task, batch_size = trainer.distiller, trainer.task, trainer.recipe.batch_size
    steps, example = max(trained.steps, 1), task.example()
    flops: dict[str, float | None] = {role: _flops(network, example) for role, network in trained.networks.items()}
    flops["training"] = _counted(cell, trainer, store)
    return {
        "train_s": trained.seconds,
        "step_ms": trained.step_ms,
        "images_per_s": batch_size * steps / max(trained.seconds, 1e-9),
        "peak_memory_mb": trained.peak_mb,
        "parameters": {
            "student": _parameters(trained.networks["student"].module),
            "teacher": _parameters(distiller.teacher) if distiller.teacher is not None else None,
            "method": sum(p.numel() for p in distiller.parts.parameters() if p.requires_grad),  # no network's copies
        },
        "flops": flops,
    }


def _counted(cell: Cell, trainer: Trainer, store: Path) -> float | None:
    """Operations of a training step per example; None where they cannot be counted, as what is trained is not lost."""
    try:
        return flops_of(cell, store, lambda: trainer)
    except Exception:  # an operation that torch's counter cannot take, or no memory for a further step
        traceback.print_exc()
        return None


def _parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _flops(network: Network, example: tuple[torch.Tensor, ...]) -> float:
    """Floating-point operations (two per multiply-add) of one example's forward pass."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.module(*(given[:1] for given in example))
    return float(counter.get_total_flops())
