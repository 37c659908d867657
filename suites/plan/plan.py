"""What a suite still lacks, why, and what it will cost."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from adm_core.errors import AdmError
from results.records.schema import Record
from results.records.store import Store
from suites.plan.costs import Costs
from suites.plan.groups import ALONE, Groups, Room, in_order
from suites.plan.selection import Selection
from suites.spec.code import code_of, differing
from suites.spec.expand import Expansion, PlannedCell
from suites.spec.networks import Checkpoint
from suites.work.folder import WorkFolder
from suites.work.locks import held

DONE = frozenset({"ok", "skipped"})
"""Statuses after which a cell is not trained again."""

State = Literal["done", "failed", "to do", "running", "queued", "lost", "not needed", "left out"]


@dataclass(frozen=True)
class Elsewhere:
    """What a cluster is about with a cell.

    Attributes:
        state: ``queued``: its job waits, or is at another cell; ``lost``: its job has ended without it.
        told: the job and where it is, for people.
    """

    state: Literal["running", "queued", "lost"]
    told: str


@dataclass(frozen=True)
class PlanRow:
    """One cell against the store.

    Attributes:
        planned: the cell.
        state: ``not needed``: a teacher all of whose cells are done; ``left out``: of what was asked for; ``queued``
            and ``lost``: of a cluster's jobs, see :class:`Elsewhere`.
        reason: why it is (not) to be trained.
        seconds: what it will take, from finished cells like it; None: unknown, or nothing to do.
        open: whether it is still to be trained; ``failed`` cells are, unless the command says otherwise.
        other_code: the parts of the code with which a finished cell was trained and which are others now.
        together: how many cells are trained at once by the worker that trains it, itself included.
    """

    planned: PlannedCell
    state: State
    reason: str
    seconds: float | None
    open: bool
    other_code: tuple[str, ...] = ()
    together: int = 1


@dataclass(frozen=True)
class Plan:
    """A suite against a store: artefacts first, then the rows of the tables.

    Attributes:
        artefacts: the teachers that are trained alone.
        rows: the tables' cells, each once.
        workers: how many run at once, for the total.
        checkpoints: the teachers that nothing trains.
        records: those of the plan's cells, by id, as they were when it was made.
        unreadable: cell id to what is wrong with its record.
        remark: why it cannot be told which cells are running; empty where it can.
        groups: which cells may be trained together.
    """

    artefacts: tuple[PlanRow, ...]
    rows: tuple[PlanRow, ...]
    workers: int
    checkpoints: tuple[Checkpoint, ...] = ()
    records: Mapping[str, Record] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    remark: str = ""
    groups: Groups = field(default_factory=Groups)

    @property
    def cells(self) -> tuple[PlanRow, ...]:
        """Everything there is, artefacts first."""
        return (*self.artefacts, *self.rows)

    @property
    def open(self) -> list[PlanRow]:
        """Everything still to be trained."""
        return [row for row in self.cells if row.open]

    @property
    def of_other_code(self) -> list[PlanRow]:
        """The finished cells that other code trained, and that nothing trains anew."""
        return [row for row in self.cells if row.other_code and not row.open]

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
            "artefacts": [_row_json(row, self.groups) for row in self.artefacts],
            "checkpoints": [{"network": c.network, "file": c.file.name, "sha256": c.digest} for c in self.checkpoints],
            "cells": [_row_json(row, self.groups) for row in self.rows],
            "open": len(self.open),
            "seconds": round(self.seconds, 1),
            "without_estimate": self.unknown,
            "workers": self.workers,
        }


def make_plan(
    expansion: Expansion,
    store: Store,
    workers: int,
    selection: Selection | None = None,
    room: Room = ALONE,
    elsewhere: Mapping[str, Elsewhere] | None = None,
) -> Plan:
    """Compare a suite with a store; every record is parsed once, and one that cannot be read is as good as none.

    The teachers of rows are planned with them, also where the expansion is a part of a suite that lacks them.

    Args:
        expansion: the suite's cells.
        store: what has been trained.
        workers: how many run at once, for the total.
        selection: which cells are asked for; None: all that the suite lacks.
        room: how many cells a worker may train at once.
        elsewhere: cell id to what a cluster is about with it.
    """
    selection, elsewhere = selection or Selection(), elsewhere or {}
    artefacts = {t.id: t for t in (*expansion.artefacts, *(row.teacher for row in expansion.rows if row.teacher))}
    rows = {row.id: row for row in expansion.rows if row.id not in artefacts}
    records, faults = store.records([*artefacts, *rows])
    unreadable = {fault.cell_id: str(fault) for fault in faults if fault.cell_id}
    others = _other_code((*artefacts.values(), *rows.values()), records)
    needed = _needs_training(expansion.rows, records, others, store, selection)
    chosen = {row.id for row in expansion.rows if selection.takes(row)}
    running, remark = _running(needed, store)
    costs = Costs(_alike(expansion, records, store) if needed else ())
    open_cells = [planned for planned in (*artefacts.values(), *rows.values()) if planned.id in needed]
    trained = [planned for planned in open_cells if not planned.skipped]
    groups = Groups.of(room, trained, lambda planned: costs.peak(planned.cell))
    together = groups.sizes(in_order(trained), workers)

    def row(planned: PlannedCell) -> PlanRow:
        record, other = records.get(planned.id), others.get(planned.id, ())
        if planned.id not in needed:
            is_row = planned.id in rows
            state, reason = _settled(record, is_row, planned.id in chosen)
            return PlanRow(planned, state, reason, None, False, other if state == "done" else ())
        state, reason = _state(planned, record, unreadable.get(planned.id), needed, other)
        if planned.id in running:
            state, reason = "running", "a runner is at it"
        if (found := elsewhere.get(planned.id)) and (found.state != "lost" or state == "to do"):
            state, reason = found.state, found.told
        other = other if _is_done(record) else ()
        seconds = 0.0 if planned.skipped else costs.estimate(planned.cell)
        return PlanRow(planned, state, reason, seconds, True, other, together.get(planned.id, 1))

    return Plan(
        artefacts=tuple(map(row, artefacts.values())),
        rows=tuple(map(row, rows.values())),
        workers=workers,
        checkpoints=expansion.checkpoints,
        records=records,
        unreadable=unreadable,
        remark=remark,
        groups=groups,
    )


def _other_code(cells: Iterable[PlannedCell], records: Mapping[str, Record]) -> dict[str, tuple[str, ...]]:
    """Cell id to the parts of the code that its record was made with and that are others now, where it has one."""
    return {c.id: differing(records[c.id].code, code_of(c.cell)) for c in cells if c.id in records}


def _needs_training(
    rows: Iterable[PlannedCell],
    records: Mapping[str, Record],
    others: Mapping[str, tuple[str, ...]],
    store: Store,
    selection: Selection,
) -> set[str]:
    """Ids of the cells to be trained: rows that are asked for, and the teachers which these lack."""
    needed = set()
    for row in rows:
        if not selection.takes(row) or not selection.asks_for(records.get(row.id), bool(others.get(row.id))):
            continue
        needed.add(row.id)
        if row.teacher is None or row.skipped:
            continue
        outdated = selection.fresh and others.get(row.teacher.id)
        if outdated or not _is_ready(row.teacher, records.get(row.teacher.id), store):
            needed.add(row.teacher.id)
    return needed


def _running(needed: set[str], store: Store) -> tuple[set[str], str]:
    """Which cells some runner is at, and why that cannot be told where it cannot."""
    try:
        return held(store.root, needed), ""
    except AdmError as error:  # a file system without locks; a store on it can still be looked at
        return set(), str(error)


def weights_exist(planned: PlannedCell, store: Store) -> bool:
    """Whether a teacher's weights lie in the store; true for cells that leave none."""
    return planned.cell.regime != "alone" or os.path.isfile(WorkFolder.of(store.root, planned.id).weights)


def _alike(expansion: Expansion, own: Mapping[str, Record], store: Store) -> Iterable[Record]:
    """Records in the store with a protocol of this suite; the others are not even parsed."""
    digests = [planned.cell.protocol_digest for planned in expansion.cells]
    others = [cell for cell in store.ids() if cell not in own and store.mentions(cell, digests)]
    return [*own.values(), *store.records(others)[0].values()]


def _is_done(record: Record | None) -> bool:
    return record is not None and record.status in DONE


def _is_ready(teacher: PlannedCell, record: Record | None, store: Store) -> bool:
    return record is not None and record.status == "ok" and weights_exist(teacher, store)


def _settled(record: Record | None, is_row: bool, chosen: bool) -> tuple[State, str]:
    """State and reason of a cell that is not to be trained."""
    if record is not None and _is_done(record):
        return "done", record.reason or ""
    if is_row and not chosen:
        return "left out", "not among --only"
    if is_row and record is not None:
        return "failed", f"last time: {record.status}: {record.reason}; not among --retry"
    return "not needed", "no cell to be trained needs it"


def _state(
    planned: PlannedCell, record: Record | None, unreadable: str | None, needed: set[str], other: tuple[str, ...]
) -> tuple[State, str]:
    """State and reason of a cell that is to be trained and at which no runner is."""
    if unreadable is not None:
        return "to do", f"its record is unreadable: {unreadable}"
    if record is not None and other and _is_done(record):
        return "to do", f"trained by other code ({', '.join(other)})"
    if record is not None and record.status == "skipped":
        return "to do", f"last time: skipped: {record.reason}"
    if record is not None and not _is_done(record):
        return ("to do" if record.status == "interrupted" else "failed"), f"last time: {record.status}: {record.reason}"
    if planned.skipped:
        return "to do", f"no record; will be skipped: {planned.skipped}"
    if planned.teacher and planned.teacher.id in needed:
        return "to do", "no record; its teacher is trained first"
    return "to do", "no record" if record is None else "its weights are missing"


def _row_json(row: PlanRow, groups: Groups) -> dict[str, Any]:
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
        "open": row.open,
        "other_code": list(row.other_code),
        "together": row.together if row.open else None,
        "why_alone": groups.reasons.get(row.planned.id),
    }
