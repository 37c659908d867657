"""The cost tables: time, memory, size. Apart from the scores, because they differ from machine to machine.

One table per block: means over the ok seeds, in the suite's order, and time relative to the baseline. What was measured
on several devices is told for each: no mean is over two of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from results.analysis import statistics
from results.analysis.blocks import Block, Line
from results.records.schema import Record
from results.table import Column, Entry, Row, Table
from results.tables.registry import TableKind, register

_Reading = Callable[[Record], float | None]

_COLUMNS: tuple[tuple[Column, _Reading], ...] = (
    (Column("train_s", "train s", "spread", 1, "seconds in training, evaluation left out"), lambda r: r.cost.train_s),
    (Column("step_ms", "step ms", "spread", 2, "milliseconds per optimiser step"), lambda r: r.cost.step_ms),
    (Column("images_per_s", "images/s", "count", 0, "training images per second"), lambda r: r.cost.images_per_s),
    (Column("peak_memory_mb", "peak MiB", "count", 0, "peak memory of the device, else of the process"),
     lambda r: r.cost.peak_memory_mb),
    (Column("parameters_student", "student params", "count", 0, "trainable parameters of the student"),
     lambda r: r.cost.parameters.get("student")),
    (Column("parameters_teacher", "teacher params", "count", 0, "parameters of the teacher"),
     lambda r: r.cost.parameters.get("teacher")),
    (Column("parameters_method", "method params", "count", 0, "trainable parameters that the method adds"),
     lambda r: r.cost.parameters.get("method")),
    (Column("mflops_student", "student MFLOPs", "number", 1, "per image, forward, in millions"),
     lambda r: _millions(r.cost.flops.get("student"))),
    (Column("mflops_teacher", "teacher MFLOPs", "number", 1, "per image, forward, in millions"),
     lambda r: _millions(r.cost.flops.get("teacher"))),
    (Column("mflops_training", "training MFLOPs", "number", 1,
            "per image, of a training step: all forward and backward passes, in millions"),
     lambda r: _millions(r.cost.flops.get("training"))),
)  # fmt: skip


def relative_time(block: Block, line: Line) -> float | None:
    """A row's step time as a multiple of the baseline's on the same device.

    Of training time where steps were not timed. The mean over the devices on which both were measured; None where
    there is none.
    """
    if block.baseline is None:
        return None
    bases = places(block.baseline)
    for read in (lambda r: r.cost.step_ms, lambda r: r.cost.train_s):  # type: _Reading
        both = [(_read(own, read), _read(bases[place], read)) for place, own in places(line).items() if place in bases]
        ratios = [(math.fsum(mine) / len(mine)) / (math.fsum(base) / len(base)) for mine, base in both
                  if mine and base and math.fsum(base) > 0]  # fmt: skip
        if ratios:
            return math.fsum(ratios) / len(ratios)
    return None


def places(line: Line) -> dict[str, Line]:
    """What a row's times were measured on, device and threads in words, to the row with the seeds that were; sorted."""
    found: dict[str, dict[int, Record]] = {}
    for seed, record in sorted(line.records.items()):
        found.setdefault(_place(record), {})[seed] = record
    return {place: replace(line, records=records) for place, records in sorted(found.items())}


def _place(record: Record) -> str:
    device, threads = record.environment.get("device"), record.environment.get("threads")
    return f"{device or 'unknown'}, {threads or 'unknown'} thread{'' if threads == 1 else 's'}"


def _table(block: Block) -> Table:
    slower = Column("slowdown", "× none", "number", 2, "step time as a multiple of the baseline's")
    where = Column("device", "measured on", about="device and threads")
    columns = (Column("label", "method"), where, Column("n", "seeds", "count"), *(c for c, _ in _COLUMNS), slower)
    each = [(line, place, own) for line in block.lines for place, own in places(line).items()]
    notes = ["Means over the seeds that are ok. Times hold for the machines they were measured on."]
    several = len({place for _, place, _ in each}) > 1
    if several:
        notes.append("The rows were measured on different devices or thread counts, each of which has rows of its own.")
    rows = tuple(_row(block, own, place if several else None, line is block.baseline) for line, place, own in each)
    table = Table("cost", block.title, columns, rows, block.subtitle, block.context, tuple(notes))
    return table.without_empty(frozenset({"label", "n"}))


def _row(block: Block, line: Line, place: str | None, is_baseline: bool) -> Row:
    entries = [Entry((line.label,)), Entry((place,)), Entry((len(line.records),))]
    for column, read in _COLUMNS:
        summary = statistics.summarize(_read(line, read))
        values: tuple[float | None, ...] = (summary.mean, summary.std) if summary else (None, None)
        entries.append(Entry(values if column.kind == "spread" else values[:1]))
    entries.append(Entry((relative_time(block, line),)))
    return Row(tuple(entries), "baseline" if is_baseline else "ranked")


def _read(line: Line, read: _Reading) -> list[float]:
    values = (read(record) for _, record in sorted(line.records.items()))
    return [value for value in values if value is not None]


def _millions(value: float | None) -> float | None:
    return None if value is None else value / 1e6


COST = register(TableKind(name="cost", title="Cost", of_block=lambda block: [_table(block)], place="block", order=3))
