"""What a suite still lacks, why, and what it will cost."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from results.records.schema import Cell, Record, canonical_json
from results.records.store import Store
from suites.spec.expand import Expansion, PlannedCell
from suites.spec.networks import Checkpoint
from suites.work.folder import WorkFolder
from suites.work.locks import is_held

DONE = frozenset({"ok", "skipped"})
"""Statuses after which a cell is not trained again."""

State = Literal["done", "failed", "to do", "running", "not needed"]


@dataclass(frozen=True)
class PlanRow:
    """One cell against the store.

    Attributes:
        planned: the cell.
        state: ``failed`` cells are tried again; ``not needed``: a teacher all of whose cells are done.
        reason: why it is (not) to be trained.
        seconds: what it will take, from finished cells like it; None: unknown, or nothing to do.
    """

    planned: PlannedCell
    state: State
    reason: str
    seconds: float | None

    @property
    def open(self) -> bool:
        """Whether it is still to be trained."""
        return self.state not in ("done", "not needed")


@dataclass(frozen=True)
class Plan:
    """A suite against a store: artefacts first, then the rows of the tables.

    Attributes:
        artefacts: the teachers that are trained alone.
        rows: the tables' cells, each once.
        workers: how many run at once, for the total.
        checkpoints: the teachers that nothing trains.
    """

    artefacts: tuple[PlanRow, ...]
    rows: tuple[PlanRow, ...]
    workers: int
    checkpoints: tuple[Checkpoint, ...] = ()

    @property
    def open(self) -> list[PlanRow]:
        """Everything still to be trained."""
        return [row for row in (*self.artefacts, *self.rows) if row.open]

    @property
    def unknown(self) -> int:
        """How many open cells have no estimate."""
        return sum(row.seconds is None for row in self.open)

    @property
    def seconds(self) -> float:
        """Wall time of the open cells that have an estimate, spread over the workers."""
        each = [row.seconds for row in self.open if row.seconds is not None]
        return max(sum(each) / self.workers, max(each, default=0.0))

    def as_json(self) -> dict[str, Any]:
        """Plain data for scripts."""
        return {
            "artefacts": [_row_json(row) for row in self.artefacts],
            "checkpoints": [{"network": c.network, "file": c.file.name, "sha256": c.digest} for c in self.checkpoints],
            "cells": [_row_json(row) for row in self.rows],
            "open": len(self.open),
            "seconds": round(self.seconds, 1),
            "without_estimate": self.unknown,
            "workers": self.workers,
        }


def make_plan(expansion: Expansion, store: Store, workers: int) -> Plan:
    """Compare a suite with a store."""
    records = {planned.id: store.read_record(planned.id) for planned in expansion.cells}
    needed = needs_training(expansion, store)
    costs = Costs(_alike(expansion, store) if needed else ())
    lacking = {planned.id for planned in expansion.artefacts if planned.id in needed}

    def row(planned: PlannedCell) -> PlanRow:
        state, reason = _state(planned, records[planned.id], needed, lacking, store)
        return PlanRow(planned, state, reason, costs.estimate(planned.cell) if planned.id in needed else None)

    artefacts = {planned.id for planned in expansion.artefacts}
    return Plan(
        artefacts=tuple(row(planned) for planned in expansion.artefacts),
        rows=tuple(row(planned) for planned in expansion.cells if planned.id not in artefacts),
        workers=workers,
        checkpoints=expansion.checkpoints,
    )


def needs_training(expansion: Expansion, store: Store) -> set[str]:
    """Ids of the cells to be trained: rows that are not done, and the teachers which these lack."""
    needed = {row.id for row in expansion.rows if not _is_done(store.read_record(row.id))}
    for row in expansion.rows:
        if row.id in needed and row.teacher and not _is_ready(row.teacher, store):
            needed.add(row.teacher.id)
    return needed


def weights_exist(planned: PlannedCell, store: Store) -> bool:
    """Whether a teacher's weights lie in the store; true for cells that leave none."""
    return planned.cell.regime != "alone" or WorkFolder.of(store.root, planned.id).weights.is_file()


class Costs:
    """What cells took in a store, as an estimate for cells like them: same benchmark, protocol, pair and regime."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._alike: dict[tuple[str | None, ...], list[float]] = defaultdict(list)
        for record in records:
            seconds = _seconds(record)
            if record.status == "ok" and seconds:
                for key in _keys(record.cell):
                    self._alike[key].append(seconds)

    def estimate(self, cell: Cell) -> float | None:
        """Median seconds of finished cells with the same method, or else with any method; None: there are none."""
        found = next((self._alike[key] for key in _keys(cell) if key in self._alike), None)
        return statistics.median(found) if found else None


def _alike(expansion: Expansion, store: Store) -> Iterable[Record]:
    """Records in the store with a protocol of this suite; the others are not even parsed."""
    digests = {planned.cell.protocol_digest.encode() for planned in expansion.cells}
    contents = ((cell, store.record_path(cell).read_bytes()) for cell in store.ids())
    ids = [cell for cell, content in contents if any(mark in content for mark in digests)]
    return store.records(ids)[0].values()


def _keys(cell: Cell) -> list[tuple[str | None, ...]]:
    own = canonical_json({name: network.model_dump(mode="json") for name, network in cell.networks.items()})
    setting = (cell.benchmark, cell.protocol_digest, cell.teacher, cell.student, cell.regime, own)
    return [(*setting, cell.method_name), setting]


def _seconds(record: Record) -> float:
    phases = (record.cost.setup_s, record.cost.train_s, record.cost.eval_s)
    return sum(phase for phase in phases if phase is not None)


def _is_done(record: Record | None) -> bool:
    return record is not None and record.status in DONE


def _is_ready(teacher: PlannedCell, store: Store) -> bool:
    record = store.read_record(teacher.id)
    return record is not None and record.status == "ok" and weights_exist(teacher, store)


def _state(
    planned: PlannedCell, record: Record | None, needed: set[str], lacking: set[str], store: Store
) -> tuple[State, str]:
    if planned.id not in needed:
        if record is not None and _is_done(record):
            return "done", record.reason or ""
        return "not needed", "every cell that needs it is done"
    if is_held(store.root, planned.id):
        return "running", "a runner is at it"
    if record is not None and not _is_done(record):
        return ("to do" if record.status == "interrupted" else "failed"), f"last time: {record.status}: {record.reason}"
    if planned.teacher and planned.teacher.id in lacking:
        return "to do", "no record; its teacher is trained first"
    if record is not None:
        return "to do", "its weights are missing"
    return "to do", "no record"


def _row_json(row: PlanRow) -> dict[str, Any]:
    cell = row.planned.cell
    return {
        "id": row.planned.id,
        "block": row.planned.block,
        "label": row.planned.label,
        "teacher": cell.teacher,
        "student": cell.student,
        "regime": cell.regime,
        "seed": cell.seed,
        "state": row.state,
        "reason": row.reason,
        "seconds": row.seconds,
    }
