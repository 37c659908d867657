"""Trained students as programs that torch runs by itself: ``torch.export.load(FILE).module()(images)``."""

from __future__ import annotations

import io
from collections.abc import Collection

import torch

from adm_core.errors import AdmError
from results.records.schema import Record
from results.records.store import Store
from suites.look.lookup import finished_cell, suite_meant
from suites.look.trained import TrainedCells, named, require_weights


def chosen(names: Collection[str], store: Store) -> list[Record]:
    """The records of the cells that names mean, each once.

    Args:
        names: each a suite that was run in the store, of which all finished cells are meant, or the beginning of a
            cell's id.
        store: records, manifests and work folders.

    Raises:
        AdmError: nothing of a name is finished, or weights are missing.
        RecordError: the store does not know the suite.
    """
    found: dict[str, Record] = {}
    for name in names:
        suite = suite_meant(name, store)
        if suite is None:
            record = finished_cell(store, name)
            found[record.id] = record
            continue
        records, _ = store.records(row.id for row in store.read_manifest(suite).rows)
        finished = {key: record for key, record in records.items() if record.status == "ok"}
        if not finished:
            raise AdmError(f"suite '{suite}': no cell of it in '{store.root}' is finished; run 'adm run {suite}' first")
        found |= finished
    require_weights(", ".join(names), store, [record.cell for record in found.values()])
    return list(found.values())


def program(record: Record, cells: TrainedCells) -> bytes:
    """What a cell deploys, traced by ``torch.export`` for batches of any size, on a CPU, in evaluation mode.

    Args:
        record: of a finished cell.
        cells: opens it, on a CPU.

    Raises:
        AdmError: weights are missing or damaged, or torch cannot trace the network; says why.
    """
    student = cells.networks(record.cell)["student"]
    module, example = cells.task(record.cell).standalone(student)
    # torch.export.save warns that weights in channels-last order may be incomplete, which they are not
    module = module.eval().to(memory_format=torch.contiguous_format)
    batch, file = torch.export.Dim("batch"), io.BytesIO()
    try:
        with torch.no_grad():
            sizes = tuple({0: batch} for _ in example)
            traced = torch.export.export(module, example, dynamic_shapes=sizes, strict=False)
        torch.export.save(traced, file)
    except Exception as error:  # a library's network may do what cannot be traced, and fail in any way
        raise AdmError(f"{named(record.cell)}: torch.export cannot take its student: {error}") from error
    return file.getvalue()
