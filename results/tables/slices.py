"""The slices tables: a metric by part of the test set, such as the IoU of each class. Means over seeds, not ranked."""

from __future__ import annotations

from results.analysis import statistics
from results.analysis.blocks import Block, Line
from results.metrics import SEPARATOR, metric_column
from results.table import Column, Entry, Row, Table
from results.tables.registry import TableKind, register


def _tables(block: Block) -> list[Table]:
    """One table per sliced metric: the parts are the rows, methods the columns."""
    return [_table(block, metric) for metric in _sliced(block)]


def _sliced(block: Block) -> list[str]:
    """The metrics of a block that come in parts."""
    names = (name for record in block.records() for name in record.scores.get("student", {}) if SEPARATOR in name)
    return sorted({name.split(SEPARATOR)[0] for name in names})


def _table(block: Block, metric: str) -> Table:
    lines = [line for line in block.lines if line.records]
    parts = dict.fromkeys(
        name
        for line in lines
        for record in line.records.values()
        for name in record.scores.get("student", {})
        if name.startswith(f"{metric}{SEPARATOR}")
    )
    digits = metric_column(metric).digits
    columns = (
        Column("label", "part"),
        *(
            Column(f"{metric} {line.label}", line.label, "number", digits, f"{metric} of {line.label}")
            for line in lines
        ),
    )
    rows = tuple(
        Row((Entry((name.removeprefix(f"{metric}{SEPARATOR}"),)), *(_mean(line, name) for line in lines)))
        for name in parts
    )
    title = f"{block.title}: {metric} by part"
    notes = ("Student's mean over the seeds that are ok, in the metric's unit; parts are not ranked.",)
    return Table("slices", title, columns, rows, block.subtitle, {**block.context, "metric": metric}, notes)


def _mean(line: Line, name: str) -> Entry:
    values = [record.score("student", name) for _, record in sorted(line.records.items())]
    summary = statistics.summarize([value for value in values if value is not None])
    return Entry((summary.mean if summary else None,))


SLICES = register(
    TableKind(
        name="slices",
        title="Metrics by part",
        of_block=_tables,
        place="folded",
        order=2,
        nothing="no metric of this suite comes in parts",
    )
)
