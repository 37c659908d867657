"""Cells opened: the device they run on, their task, and their networks with the weights they begin with."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from adm_core import checkpoint
from adm_core.distiller import Distiller
from adm_core.errors import AdmError
from adm_core.kernels import Kernels
from adm_core.method import Method, Needs
from adm_core.recipe import Protocol
from adm_core.seeds import derive
from adm_core.taps import Network
from adm_core.task import Task, TaskContext
from results.records.identity import digest
from results.records.schema import Cell, Record
from results.records.store import Store
from suites.spec.benchmarks import benchmark_of
from suites.spec.code import code_of
from suites.spec.conditions import condition_of
from suites.spec.expand import teacher_cell
from suites.spec.networks import checkpoint_of, definition_of, sha256
from suites.work.folder import ARTEFACTS, WorkFolder
from suites.work.options import RunOptions
from suites.worker.weights import load_weights
from tasks import artefacts, catalogue, datasets

Teacher = tuple[Network, dict[str, Any] | None]
"""A cell's teacher, and its identity in a record where it is frozen."""


def pick_device(wanted: str, precision: str = "fp32", kernels: Kernels = "portable") -> torch.device:
    """The device to train on, with torch set up for it; ``auto`` is a GPU where one is visible.

    Args:
        wanted: ``auto``, ``cpu`` or ``cuda``.
        precision: of the recipe.
        kernels: of the recipe. Those of a CPU were chosen when torch was loaded (:mod:`adm_core.kernels`).

    Raises:
        AdmError: ``cuda`` is asked for and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise AdmError("device cuda: no GPU is visible to torch; use --device cpu, or see adm doctor")
    if wanted == "cpu" or not torch.cuda.is_available():
        torch.set_num_threads(1)
        device = torch.device("cpu")
    else:
        device = torch.device("cuda", 0)
    set_numerics(device, precision, kernels)
    return device


def set_numerics(device: torch.device, precision: str, kernels: Kernels) -> None:
    """Set all of torch's switches that move numbers on a device, whatever the cell before has left them at.

    Under ``fp32`` a GPU multiplies in fp32 in convolutions as well, where torch's own default is tf32.
    """
    deterministic = device.type == "cuda" and kernels == "portable"
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # finds bugs, takes time
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = device.type == "cuda" and not deterministic
    products = "tf32" if precision == "tf32" else "ieee"
    # Torch's own code, torch.export for one, still asks by the old name, and stops where the two disagree.
    torch.backends.cudnn.allow_tf32 = products == "tf32"
    torch.backends.cuda.matmul.fp32_precision = products
    torch.backends.cudnn.conv.fp32_precision = products  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn.fp32_precision = products  # type: ignore[attr-defined]


def open_task(
    cell: Cell, protocol: Protocol, device: torch.device, options: RunOptions, needs: Needs | None = None
) -> Task:
    """The cell's task, opened on its benchmark.

    Args:
        cell: which benchmark, and the seed of the batches.
        protocol: the recipe.
        device: where networks live.
        options: where data lie, and the store.
        needs: of the method that will be trained; None: nothing will be.
    """
    return catalogue.task_class(cell.task)(
        TaskContext(
            benchmark=cell.benchmark,
            protocol=protocol,
            seed=cell.seed,
            device=device,
            data_roots=[*options.data_roots, *datasets.roots_from_environment()],
            needs=(needs or Needs()).within(cell.regime),
            download=options.download,
            artefacts=_shared(options.store, protocol),
            own=benchmark_of(cell, options.folders),
            condition=condition_of(cell),
        )
    )


def _shared(store: Path, protocol: Protocol) -> Path:
    """Where cells share what one of them computed; what native kernels made is kept apart, as its bits are others."""
    kernels = protocol.recipe.kernels
    return store / ARTEFACTS if kernels == "portable" else store / ARTEFACTS / kernels


def make_distiller(
    cell: Cell, task: Task, method: Method, networks: Mapping[str, Network], files: Mapping[str, Path]
) -> Distiller:
    """The cell's method on its networks; what is initialised for it draws from a generator of its own.

    Args:
        cell: which method, in which regime.
        task: opened for it.
        method: the cell's.
        networks: student and teacher, with the weights that they begin with.
        files: SHA-256 to the files of the suite's own networks.

    Raises:
        Unsupported: the method cannot run on these networks.
    """
    needs, further = method.needs, dict(networks)
    roles = [f"peer{number}" for number in range(1, needs.peers + 1)] if cell.regime == "peers" else []
    if needs.branches and cell.regime != "alone":
        roles += [f"branch{number}" for number in range(2, needs.branches.count + 1)]
    for role in roles:
        torch.manual_seed(derive(cell.seed, role))
        further[role] = task.network(cell.student, definition_of(cell, cell.student, files))
    torch.manual_seed(derive(cell.seed, "method parts"))
    return Distiller(further, method, cell.regime, task.task_loss, task.kind, task.example(), task.facts())


def know_teacher(
    cell: Cell, task: Task, method: Method, distiller: Distiller, teacher: dict[str, Any] | None, store: Path
) -> None:
    """Give the method what it makes of the frozen teacher's views, from the store where an earlier cell left it."""
    if not method.needs.teacher_pass or cell.regime != "offline" or teacher is None:
        return
    device = task.example()[0].device
    of_cell = {"benchmark", "own_benchmark", "condition", "protocol_digest", "method", "seed"}
    science = cell.model_dump(mode="json", include=of_cell)
    science |= {"teacher": teacher["digest"], "code": code_of(cell), "device": device.type}
    file = store / ARTEFACTS / "teacher-pass" / f"{digest(science)}.safetensors"
    known = artefacts.read(file)
    made = known[0] if known is not None else distiller.prepare(task.batches(0, 0))
    if known is None:
        artefacts.write(file, made)
    method.know({name: tensor.to(device) for name, tensor in made.items()})


def initial_networks(
    cell: Cell, task: Task, options: RunOptions, teacher: Teacher | None = None
) -> tuple[dict[str, Network], dict[str, Any] | None]:
    """The cell's networks by role, initialised or loaded, and the identity of a frozen teacher.

    Args:
        cell: whose networks.
        task: opened for it.
        options: where weights lie.
        teacher: the cell's as :func:`initial_teacher` gives it; None: it is made here.
    """
    torch.manual_seed(derive(cell.seed, "student"))
    networks = {"student": task.network(cell.student, definition_of(cell, cell.student, options.files))}
    if cell.regime == "alone" or cell.teacher is None:
        return networks, None
    networks["teacher"], identity = teacher or initial_teacher(cell, task, options)
    if identity is not None:
        task.inherit(networks["student"], networks["teacher"])
    return networks, identity


def initial_teacher(cell: Cell, task: Task, options: RunOptions) -> Teacher:
    """The cell's teacher, with its weights and its identity where it is frozen; there must be one."""
    assert cell.teacher is not None
    torch.manual_seed(derive(cell.seed, "teacher"))
    network = task.network(cell.teacher, definition_of(cell, cell.teacher, options.files))
    brought = checkpoint_of(cell, options.files)
    if brought is not None:
        weights = checkpoint.load_foreign(brought, trusted=cell.checkpoint in options.trusted)
        where = f"teacher '{cell.teacher}', {brought.name}"
        told = task.load(network, weights, where)
        if told:
            print(f"{where}: {told}", file=sys.stderr)
        return network, {"checkpoint": brought.name, "digest": cell.checkpoint}
    alone = teacher_cell(cell)
    if alone is None:
        return network, None
    weights_file = WorkFolder.of(options.store, alone.id).weights
    load_weights(network, weights_file)
    record = Store(options.store).records([alone.id])[0].get(alone.id)  # without a readable one there is no score
    _check_scored_alike(alone, record, task.data_digest())
    return network, {
        "cell_id": alone.id,
        "digest": sha256(weights_file),
        "score": record.scores["student"][task.metric] if record else None,
    }


def _check_scored_alike(alone: Cell, record: Record | None, digest: str | None) -> None:
    """Stop where a teacher's score, which stands beside its students', was taken on something else."""
    there = record.data_digest if record else None
    if there and digest and there != digest:
        raise AdmError(
            f"teacher '{alone.student}' (cell {alone.id}) was trained or scored on other data: {there}, here it is "
            f"{digest}; delete its record and run again to train it anew"
        )
