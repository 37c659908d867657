"""Finished cells opened again: their task, and their networks with the weights that training left."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from adm_core.errors import AdmError
from adm_core.method import Method
from adm_core.taps import Network
from adm_core.task import Task
from results.records.schema import Cell
from results.records.store import Store
from suites.spec.expand import teacher_cell
from suites.spec.method_settings import method_of
from suites.spec.networks import sha256
from suites.work.folder import WorkFolder
from suites.work.options import RunOptions
from suites.worker.opening import initial_networks, make_distiller, open_task, pick_device
from suites.worker.weights import load_weights

_MOST_NAMED = 4


class TrainedCells:
    """The finished cells of a store. Reads only.

    Args:
        store: records and work folders.
        device: ``auto``, ``cpu`` or ``cuda``.
        data_roots: folders in which data sets are looked for, before those that the cells were trained with.
        trusted: checkpoints of teachers whose code may be run; a store's own word is not taken for it, as it may come
            from somebody else.
    """

    def __init__(
        self, store: Store, device: str, data_roots: tuple[Path, ...] = (), trusted: Iterable[Path] = ()
    ) -> None:
        self._store, self._data_roots, self._device = store, data_roots, pick_device(device)
        self._trusted = tuple(sha256(file) for file in trusted)
        self._tasks: dict[tuple[str, ...], Task] = {}

    def task(self, cell: Cell) -> Task:
        """The cell's task on its benchmark, opened once for all cells of one benchmark and protocol.

        Raises:
            AdmError: the cell's work folder or its data set is missing.
        """
        own = cell.own_benchmark.files if cell.own_benchmark else ""
        key = (cell.benchmark, own, str(cell.condition), cell.protocol_digest)
        if key not in self._tasks:
            protocol = _folder(self._store, cell).assignment().protocol
            self._tasks[key] = open_task(cell, protocol, self._device, self._options(cell))
        return self._tasks[key]

    def networks(self, cell: Cell) -> dict[str, Network]:
        """The cell's trained networks by role; offline, the teacher that it learned from.

        Raises:
            AdmError: weights are missing or damaged.
        """
        options, task = self._options(cell), self.task(cell)
        networks, _ = initial_networks(cell, task, options)
        method = _deploying(cell)
        if method is not None:
            distiller = make_distiller(cell, task, method, networks, options.files)
            networks = distiller.deployed(distiller.networks)
        folder = _folder(self._store, cell)
        load_weights(networks["student"], folder.weights)
        if cell.regime == "online":
            load_weights(networks["teacher"], folder.teacher_weights)
        return networks

    def _options(self, cell: Cell) -> RunOptions:
        """As the cell was trained, but with this store, which may have been moved, and what the caller says."""
        trained = _folder(self._store, cell).assignment().options
        roots = (*self._data_roots, *trained.data_roots)
        own = {"store": self._store.root, "data_roots": roots, "trusted": self._trusted}
        return trained.model_copy(update=own)


def _deploying(cell: Cell) -> Method | None:
    """The cell's method where it deploys something else than the student, or has it sampled in a way of its own.

    A method that is not at hand does neither.
    """
    try:
        method = method_of(cell)
    except AdmError:
        return None
    return method if method.card.deployed != "student" or method.needs.sampler != "ddim" else None


def require_weights(name: str, store: Store, cells: Collection[Cell]) -> None:
    """Stop where a store lacks, of some finished cells, what :class:`TrainedCells` reads.

    Args:
        name: what was asked for, for messages.
        store: records and work folders.
        cells: the cells.

    Raises:
        AdmError: says how many cells and which, and how to get them.
    """
    lacking = [cell for cell in cells if not all(file.is_file() for file in _files(store, cell))]
    if lacking:
        told = "; ".join(named(cell) for cell in lacking[:_MOST_NAMED])
        more = f"; and {len(lacking) - _MOST_NAMED} more" if len(lacking) > _MOST_NAMED else ""
        raise AdmError(
            f"'{name}': '{store.root}' holds no trained weights of {len(lacking)} of {len(cells)} finished cells "
            f"({told}{more}); 'adm run SUITE --store FOLDER' with a fresh folder trains them anew"
        )


def named(cell: Cell) -> str:
    """A cell in words, e.g. ``online resnet14w16s2 > resnet8w8s2, dml+adm, seed 0``."""
    return f"{cell.regime} {cell.pair}, {cell.method_name}, seed {cell.seed}"


def _files(store: Store, cell: Cell) -> list[Path]:
    folder, alone = _folder(store, cell), teacher_cell(cell)
    files = [folder.path / "cell.json", folder.weights]
    files += [folder.teacher_weights] if cell.regime == "online" else []
    return files + ([_folder(store, alone).weights] if alone else [])


def _folder(store: Store, cell: Cell) -> WorkFolder:
    return WorkFolder.of(store.root, cell.id)
