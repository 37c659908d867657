"""Records as pandas data frames: the way into notebooks.

``scores``, ``cost`` and ``curves`` take a store and, where its tables' labels are wanted, the name of a suite in it:

    from results import frame
    scores = frame.scores("runs", "quick")
    scores[scores.primary].groupby(["block", "label", "network"]).value.agg(["mean", "std", "count"])

All three begin with the same columns, which say of which cell a row is:

    suite, block, label        text; the suite's name, table and row; null without a suite
    cell                       text; the cell's id
    task, benchmark, protocol, protocol_digest, regime, teacher, student      text, as in the record; teacher is null
                               for a network trained alone
    condition                  text; what is made of the benchmark, in words; null: it is as it is
    method, settings           text; the method's name, and the settings of its parts as JSON
    stretch                    text; how much longer it trains than the protocol says: a factor, or match; null: not
    seed                       Int64
    status                     text; how training ended: ok, diverged, oom, timeout, error, interrupted, skipped, or
                               "not run" (a cell of the suite without a record), "unreadable" (a damaged record; what
                               its cell was is null unless a suite says it)
    reason                     text; why it is not ok; null where it is

Text is of pandas' dtype ``str``. What is not known is null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from results.analysis.blocks import MISSING, UNREADABLE
from results.errors import RecordError
from results.metrics import higher_is_better, unit_of
from results.records.identity import canonical_json
from results.records.schema import Cell, Cost, ManifestRow, Record
from results.records.store import Store

Source = Store | str | Path | Iterable[Record]
"""A store, its folder, or records that were read already."""


@dataclass(frozen=True)
class _Entry:
    """A cell with what became of it.

    Attributes:
        id: of the cell.
        cell: None where its record is damaged and no suite names it.
        record: None where there is none, or it is damaged.
        status: the record's, or why there is no record.
        reason: why it is not ok.
        suite: name of the suite, where one is given.
        row: its place in the suite's tables, likewise.
    """

    id: str
    cell: Cell | None
    record: Record | None
    status: str
    reason: str | None
    suite: str | None = None
    row: ManifestRow | None = None


def scores(source: Source, suite: str | None = None) -> pd.DataFrame:
    """One row per cell, network and metric; a cell that is not ok has one row, with its status and no value.

    Args:
        source: a store, its folder, or records.
        suite: name of a suite in the store: its cells, in the order of its tables; None: every record of the source.

    Returns:
        The columns of this module, then: network (text: student or teacher), metric (text; of a part of the test set
        ``iou/car``), value (float64), unit (text: % or null), primary (bool: whether the metric ranks the cell),
        higher_is_better (boolean; null where a metric has no better direction, or none that is known).

    Raises:
        RecordError: the store has no records, or not this suite; a suite is asked of records without a store.
    """
    entries = _read(source, suite)
    rows: list[tuple[int, str | None, str | None, float | None, str | None, bool, bool | None]] = []
    for number, entry in enumerate(entries):
        record = entry.record
        if record is None or record.status != "ok":
            rows.append((number, None, None, None, None, False, None))
            continue
        primary = record.primary
        for network, values in record.scores.items():
            for metric, value in values.items():
                ranks = primary is not None and metric == primary.metric
                unit = (primary.unit if primary and ranks else unit_of(metric)) or None
                higher = primary.higher_is_better if primary and ranks else higher_is_better(metric)
                rows.append((number, network, metric, value, unit, ranks, higher))
    numbers, networks, metrics, values_, units, primaries, directions = zip(*rows, strict=True) if rows else [()] * 7
    frame = _cells(entries).iloc[list(numbers)].reset_index(drop=True)
    return frame.assign(
        network=_text(networks),
        metric=_text(metrics),
        value=np.array(values_, dtype=float),
        unit=_text(units),
        primary=np.array(primaries, dtype=bool),
        higher_is_better=pd.array(list(directions), dtype="boolean"),
    )


def cost(source: Source, suite: str | None = None) -> pd.DataFrame:
    """One row per cell: what training took.

    Args:
        source: a store, its folder, or records.
        suite: as for :func:`scores`.

    Returns:
        The columns of this module, then, each float64: setup_s, train_s, eval_s (seconds), step_ms (milliseconds),
        images_per_s, peak_memory_mb (MiB), and ``sampling_``, ``parameters_``, ``flops_`` and ``group_`` with what the
        records have of each, such as parameters_student and flops_teacher (per image, forward). Then device (text),
        threads (Int64), attempts (Int64: tries at training the cell).

    Raises:
        RecordError: as for :func:`scores`.
    """
    entries = _read(source, suite)
    records = [entry.record for entry in entries]
    columns: dict[str, Any] = {}
    for field, about in Cost.model_fields.items():
        given = [getattr(record.cost, field) if record else about.default for record in records]
        if isinstance(about.default, dict):
            parts = dict.fromkeys(part for value in given for part in value)
            columns |= {f"{field}_{part}": [value.get(part) for value in given] for part in parts}
        else:
            columns[field] = given
    frame = _cells(entries).assign(**{name: np.array(values, dtype=float) for name, values in columns.items()})
    threads = [record.environment.get("threads") if record else None for record in records]
    return frame.assign(
        device=_text(record.environment.get("device") if record else None for record in records),
        threads=pd.array([value if isinstance(value, int) else None for value in threads], dtype="Int64"),
        attempts=pd.array([len(record.attempts) if record else None for record in records], dtype="Int64"),
    )


def curves(source: Source, suite: str | None = None) -> pd.DataFrame:
    """One row per cell, curve and epoch, for the cells whose records hold curves.

    Args:
        source: a store, its folder, or records.
        suite: as for :func:`scores`.

    Returns:
        The columns of this module, then: curve (text, e.g. validation.student.top1), epoch (float64), value (float64;
        null where an epoch has none). As they repeat, texts are of pandas' dtype ``category`` here.

    Raises:
        RecordError: as for :func:`scores`.
    """
    entries = _read(source, suite)
    numbers, names, lengths = [], [], []
    epochs, values = [np.empty(0)], [np.empty(0)]
    for number, entry in enumerate(entries):
        found = dict(entry.record.curves) if entry.record else {}
        length = len(next(iter(found.values()), ()))
        counted = np.array(found.pop("epoch", range(1, length + 1)), dtype=float)
        for name, curve in found.items():
            numbers.append(number)
            names.append(name)
            lengths.append(length)
            epochs.append(counted)
            values.append(np.array(curve, dtype=float))
    cells = _cells(entries)
    heads = cells.iloc[numbers].assign(curve=_text(names))
    texts = dict.fromkeys((name for name in heads.columns if name != "seed"), "category")
    frame = heads.astype(texts).iloc[np.repeat(np.arange(len(heads)), lengths)].reset_index(drop=True)
    return frame.assign(epoch=np.concatenate(epochs), value=np.concatenate(values))


FRAMES: Mapping[str, Callable[[Source, str | None], pd.DataFrame]] = {"scores": scores, "cost": cost, "curves": curves}
"""Every data frame by its name."""


def _read(source: Source, suite: str | None) -> list[_Entry]:
    if not isinstance(source, Store | str | Path):
        if suite is not None:
            raise RecordError(f"suite '{suite}': records alone do not say what it consists of; give their store")
        return [_of_record(record) for record in source]
    store = source if isinstance(source, Store) else Store(source)
    if suite is None:
        if not (store.root / "records").is_dir():
            raise RecordError(f"'{store.root}': is no store: it has no folder 'records'")
        records, faults = store.records()
        damaged = [_Entry(f.cell_id or "", None, None, UNREADABLE, _within(store, f)) for f in faults]
        return sorted([*map(_of_record, records.values()), *damaged], key=lambda entry: entry.id)
    manifest = store.read_manifest(suite)
    records, faults = store.records(row.id for row in manifest.rows)
    problems = {fault.cell_id: _within(store, fault) for fault in faults}
    entries = []
    for row in manifest.rows:
        record, problem = records.get(row.id), problems.get(row.id)
        status = record.status if record else UNREADABLE if problem else MISSING
        entries.append(_Entry(row.id, row.cell, record, status, record.reason if record else problem, suite, row))
    return entries


def _of_record(record: Record) -> _Entry:
    return _Entry(record.id, record.cell, record, record.status, record.reason)


def _within(store: Store, fault: RecordError) -> str:
    """What is wrong with a record, its file named as it lies in the store."""
    return str(fault).replace(f"{store.root}/", "")


def _cells(entries: Sequence[_Entry]) -> pd.DataFrame:
    """The columns that all frames begin with, a row per entry."""
    cells = [entry.cell for entry in entries]
    plain = ("task", "benchmark", "protocol", "protocol_digest", "regime", "teacher", "student")
    settings = [canonical_json({part.name: part.settings for part in cell.method}) if cell else None for cell in cells]
    return pd.DataFrame(
        {
            "suite": _text(entry.suite for entry in entries),
            "block": _text(entry.row.block if entry.row else None for entry in entries),
            "label": _text(entry.row.label if entry.row else None for entry in entries),
            "cell": _text(entry.id for entry in entries),
            **{name: _text(getattr(cell, name) if cell else None for cell in cells) for name in plain},
            "condition": _text(cell.condition if cell else None for cell in cells),
            "method": _text(cell.method_name if cell else None for cell in cells),
            "settings": _text(settings),
            "stretch": _text(cell.stretch if cell else None for cell in cells),
            "seed": pd.array([cell.seed if cell else None for cell in cells], dtype="Int64"),
            "status": _text(entry.status for entry in entries),
            "reason": _text(entry.reason for entry in entries),
        }
    )


def _text(values: Iterable[object]) -> Any:
    return pd.array([None if value is None else str(value) for value in values], dtype="str")
