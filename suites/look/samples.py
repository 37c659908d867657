"""Images that trained generators make of the same noises, drawn as a grid with their teacher's beside it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adm_core.errors import AdmError
from adm_core.task import GenerativeTask
from results.analysis.blocks import collect
from results.metrics import metric_column
from results.plots.samples import Grid, draw
from results.records.schema import Record
from results.records.store import Store
from suites.look.lookup import finished_cell, suite_meant
from suites.look.trained import TrainedCells, named, require_weights
from tasks import catalogue


def chosen(names: Collection[str], store: Store) -> tuple[list[Record], list[str]]:
    """The records of the cells to draw, each once, and in words what is left out.

    Args:
        names: each a suite that was run in the store, for which the first finished seed of every row is taken, or the
            beginning of a cell's id.
        store: records, manifests and work folders.

    Raises:
        AdmError: nothing of a name is finished, its task makes no samples, or weights are missing.
        RecordError: the store does not know the suite.
    """
    found: dict[str, Record] = {}
    remarks: list[str] = []
    for name in names:
        suite = suite_meant(name, store)
        if suite is not None:
            records, told = _of_suite(suite, store)
            remarks += told
        else:
            records = [_of_cell(name, store)]
        found |= {record.id: record for record in records}
    require_weights(", ".join(names), store, [record.cell for record in found.values()])
    return list(found.values()), remarks


def pictures(
    records: Sequence[Record], cells: TrainedCells, count: int, tell: Callable[[str], None] = lambda _: None
) -> Iterator[tuple[str, bytes]]:
    """Cell id and PNG for each record, as they are made.

    Args:
        records: as :func:`chosen` gives them.
        cells: opens them.
        count: how many images each network makes.
        tell: called with the cell in words before its images are made.

    Raises:
        AdmError: the protocol makes fewer images than asked for, or data or weights are missing or damaged.
    """
    frozen: dict[tuple[str, str], NDArray[np.uint8]] = {}
    for record in records:
        cell = record.cell
        tell(named(cell))
        task, networks = cells.task(cell), cells.networks(cell)
        assert isinstance(task, GenerativeTask)
        grids = [Grid(_label(record, "student"), _images(task.samples(networks["student"], count), count))]
        if "teacher" in networks:
            # A frozen teacher makes the same images for all of its students.
            known = (cell.protocol_digest, record.teacher.digest if record.teacher else record.id)
            if known not in frozen:
                frozen[known] = _images(task.samples(networks["teacher"], count), count)
            grids.append(Grid(_label(record, "teacher"), frozen[known]))
        yield record.id, draw(grids, f"{cell.benchmark}: {_networks(record)}")


def _of_suite(suite: str, store: Store) -> tuple[list[Record], list[str]]:
    """The first finished seed of each row whose task makes samples."""
    manifest = store.read_manifest(suite)
    records, problems = store.records(row.id for row in manifest.rows)
    blocks = collect(manifest, records, {p.cell_id: str(p) for p in problems if p.cell_id})
    tasks = list(dict.fromkeys(block.cell.task for block in blocks))
    drawable = [task for task in tasks if _makes_samples(task)]
    if not drawable:
        raise AdmError(f"suite '{suite}': its task makes no samples ({', '.join(tasks)})")
    remarks = [
        f"{block.title}: left out, as {block.cell.task} makes no samples"
        for block in blocks
        if block.cell.task not in drawable
    ]
    lines = [line for block in blocks if block.cell.task in drawable for line in block.lines]
    found = [line.records[min(line.records)] for line in lines if line.records]
    if not found:
        raise AdmError(f"suite '{suite}': no cell of it in '{store.root}' is finished; run 'adm run {suite}' first")
    remarks += [f"{line.label}: left out, as none of its seeds is finished" for line in lines if not line.records]
    return found, remarks


def _of_cell(prefix: str, store: Store) -> Record:
    record = finished_cell(store, prefix)
    if not _makes_samples(record.cell.task):
        raise AdmError(f"cell '{prefix}': its task makes no samples ({record.cell.task})")
    return record


def _makes_samples(task: str) -> bool:
    """Whether a task's networks make images."""
    return issubclass(catalogue.task_class(task), GenerativeTask)


def _images(samples: Tensor, count: int) -> NDArray[np.uint8]:
    """Images of [-1, 1], [N, C, H, W], as bytes [N, H, W, C]."""
    if len(samples) < count:
        raise AdmError(f"--count {count}: the protocol makes only {len(samples)} images of each network")
    scaled: NDArray[np.uint8] = samples.add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return scaled


def _label(record: Record, role: str) -> str:
    """What stands above a grid: the method and its seed, or the teacher; and the score."""
    own = role == "student"
    name = f"{record.cell.method_name}, seed {record.cell.seed}" if own else "teacher"
    score = record.teacher.score if record.teacher and not own else record.score(role)
    if score is None or record.primary is None:
        return name
    column = metric_column(record.primary.metric, higher_is_better=record.primary.higher_is_better)
    return f"{name}: {column.title} {score:.{column.digits}f}"


def _networks(record: Record) -> str:
    return f"{record.cell.pair.replace('>', '→')}, {record.cell.regime}"
