"""The paper's observations on trained cells: networks of a store are shown test images, and measured on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adm_core import registry
from adm_core.distiller import Distiller
from adm_core.errors import AdmError, Unsupported
from adm_core.insight import ObjectExamples, activation, measures, weight_measures
from adm_core.methods.adm import ADM, Maps
from results.analysis.blocks import Block, collect
from results.analysis.insight import Measured
from results.plots.insight import Example
from results.records.schema import Cell, Manifest, ManifestRow
from results.records.store import Store
from results.tables.insight.tables import Looked
from suites.look.lookup import finished_cell, suite_meant
from suites.look.trained import TrainedCells, named, require_weights
from suites.spec.method_settings import settings_of
from tasks import catalogue


def chosen_blocks(name: str, store: Store) -> tuple[list[Block], list[str]]:
    """The blocks of a suite, or of one cell, that can be looked at, and in words what is left out.

    Args:
        name: of a suite that was run in the store, or the beginning of a cell's id.
        store: records, manifests and work folders.

    Raises:
        AdmError: nothing is finished, no benchmark has object masks, or weights are missing.
        RecordError: the store does not know the suite.
    """
    manifest = _manifest(name, store)
    records, problems = store.records(row.id for row in manifest.rows)
    blocks = collect(manifest, records, {p.cell_id: str(p) for p in problems if p.cell_id})
    masked = [block for block in blocks if _has_masks(block.cell)]
    if not masked:
        tried = ", ".join(dict.fromkeys(block.cell.benchmark for block in blocks))
        known = ", ".join(n for t in catalogue.tasks() for n, found in catalogue.benchmarks(t).items() if found.objects)
        raise AdmError(f"'{name}': insight needs object masks, which {tried} has not; benchmarks with masks: {known}")
    cells = [record.cell for block in masked for record in block.records()]
    if not cells:
        raise AdmError(f"'{name}': no cell of it in '{store.root}' is finished; run 'adm run {name}' first")
    require_weights(name, store, cells)
    remarks = [f"{b.title}: left out, as {b.cell.benchmark} has no object masks" for b in blocks if b not in masked]
    planned = sum(len(line.planned) for block in masked for line in block.lines)
    if len(cells) < planned:
        remarks.append(f"not finished and left out: {planned - len(cells)} of {planned} cells")
    return masked, remarks


def _has_masks(cell: Cell) -> bool:
    """Whether the benchmark knows objects; a suite's own folder of images knows classes alone."""
    return cell.own_benchmark is None and bool(catalogue.benchmarks(cell.task)[cell.benchmark].objects)


def look(
    blocks: Sequence[Block], cells: TrainedCells, images: int, tell: Callable[[str], None] = lambda _: None
) -> list[Looked]:
    """Measure every finished cell of some blocks.

    Args:
        blocks: as :func:`chosen_blocks` gives them.
        cells: opens them.
        images: how many test images to show to each.
        tell: called with the cell in words before it is measured.

    Raises:
        AdmError: no cell can be measured, or too few images hold an object.
    """
    looked = []
    for block in blocks:
        measured, reasons = {}, {}
        for record in block.records():
            tell(named(record.cell))
            try:
                measured[record.id] = _measure(record.cell, cells, images)
            except Unsupported as error:
                reasons[record.id] = str(error)
        looked.append(Looked(block, measured, reasons))
    if not any(one.measured for one in looked):
        told = sorted({reason for one in looked for reason in one.reasons.values()})
        raise AdmError(f"no cell can be measured: {'; '.join(told)}")
    return looked


def pictured(looked: Sequence[Looked]) -> Cell:
    """The cell to make pictures of: the first measured one that was trained with ADM, or else the first of all."""
    cells = [r.cell for one in looked for r in one.block.records() if r.id in one.measured]
    return next((cell for cell in cells if any(part.name == "adm" for part in cell.method)), cells[0])


def examples(cell: Cell, looked: Sequence[Looked], cells: TrainedCells, images: int, count: int) -> list[Example]:
    """What a cell's networks show on a few images, evenly spread over those that hold an object.

    Args:
        cell: one of those measured.
        looked: its measures, which tell the images that hold an object.
        cells: opens it.
        images: how many test images were measured.
        count: how many examples, or all where there are fewer.
    """
    area = next(one.measured[cell.id].values["area"] for one in looked if cell.id in one.measured)
    candidates = np.flatnonzero(~np.isnan(area))
    spread = np.linspace(0, len(candidates) - 1, min(count, len(candidates)))
    wanted = [int(candidates[round(place)]) for place in spread]
    found, start = [], 0
    for seen in _seen(cell, cells, images):
        tensors = (seen.shown.images, seen.shown.objects, *seen.maps, seen.teacher, seen.student)
        arrays = [tensor.cpu().numpy() for tensor in tensors]
        here = [index - start for index in wanted if start <= index < start + len(arrays[0])]
        found += [Example(*(array[index] for array in arrays)) for index in here]
        start += len(arrays[0])
    return found


@dataclass(frozen=True)
class _Seen:
    """What a pair shows on a batch: S with its weights, and the activations, each at its own resolution.

    ``places`` says where they were read.
    """

    places: str
    shown: ObjectExamples
    maps: Maps
    teacher: Tensor
    student: Tensor


def _manifest(name: str, store: Store) -> Manifest:
    """The manifest of a suite; of a cell, one that holds it alone."""
    suite = suite_meant(name, store)
    if suite is not None:
        return store.read_manifest(suite)
    cell = finished_cell(store, name).cell
    if cell.teacher is None:
        raise AdmError(f"cell '{name}' trained {cell.student} alone: there is no teacher to hold it against")
    row = ManifestRow(cell=cell, id=cell.id, label=cell.method_name, block=f"Cell {cell.id}, seed {cell.seed}")
    return Manifest(suite=cell.id, title=row.block, rows=[row])


def _measure(cell: Cell, cells: TrainedCells, images: int) -> Measured:
    """The measures of one cell.

    Raises:
        Unsupported: ADM cannot read this pair, or not as the cell did.
        AdmError: fewer than two images hold an object.
    """
    found: dict[str, list[np.ndarray]] = {}
    elsewhere, grid, places = None, (0, 0), ""
    for seen in _seen(cell, cells, images):
        objects, similarity = seen.shown.objects, seen.maps.similarity
        mask = seen.shown.batch.mask
        values = measures(similarity, seen.teacher, seen.student, objects, mask, elsewhere)
        values |= weight_measures(seen.maps.consensus, objects, mask)
        grid = grid if elsewhere is not None else (similarity.shape[1], similarity.shape[2])
        elsewhere, places = objects, seen.places
        for key, array in values.items():
            found.setdefault(key, []).append(array.cpu().numpy())
    joined = {key: np.concatenate(arrays) for key, arrays in found.items()}
    whole = ~np.logical_or.reduce([np.isnan(array) for array in joined.values()])
    if whole.sum() < 2:
        raise AdmError(f"{cell.benchmark}: fewer than two of {len(whole)} images hold an object; give more --images")
    return Measured(joined, places, grid)


def _seen(cell: Cell, cells: TrainedCells, images: int) -> Iterator[_Seen]:
    """What the cell's trained pair shows on test images, in evaluation mode."""
    task, adm = cells.task(cell), _adm_of(cell)
    networks = cells.networks(cell)
    pair = {role: networks[role] for role in ("student", "teacher")}
    distiller = Distiller(pair, adm, cell.regime, task.task_loss, task.kind, task.example(), task.facts()).eval()
    for shown in task.object_examples(images):
        with torch.no_grad():
            views, _ = distiller.views(shown.batch)
            step = distiller.step(shown.batch, 1.0, torch.Generator(shown.objects.device), views)
            maps = adm.maps(views["student"], views["teacher"], step)
        teacher, student = (activation(views[role].maps(adm.settings.taps)[-1]) for role in ("teacher", "student"))
        yield _Seen(adm.places, shown, maps, teacher, student)


def _adm_of(cell: Cell) -> ADM:
    """ADM as the cell was trained with it, or else with its defaults.

    Raises:
        Unsupported: what the cell was trained with cannot be had again.
    """
    own = next((part for part in cell.method if part.name == "adm"), None)
    adm = registry.create("adm", {"adm": settings_of(own)} if own else None)
    assert isinstance(adm, ADM)
    if own and own.version != adm.card.version:
        raise Unsupported(f"trained with adm version {own.version}; here it is version {adm.card.version}")
    if adm.settings.width == "projector":
        raise Unsupported("its S was read through a trained projector, which is not kept")
    return adm
