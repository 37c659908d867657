"""Tables as one plain table: a line per row, every number in full in a column of its own."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from results.table import PARTS, Row, Table

_FORMULA = ("=", "+", "-", "@", "\t")
"""What makes a spreadsheet take a text for a formula."""
_BREAKS = re.compile(r"[\r\n\v\f\0]+")


def render(tables: Sequence[Table]) -> str:
    """All rows of all tables; columns are the union of theirs, in order of first appearance."""
    lines = [_fields(table, row) for table in tables for row in table.rows]
    names = list(dict.fromkeys(name for table in tables for name in _names(table)))
    names += ["row_kind", "note"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([escape(name) for name in names])
    writer.writerows([[_text(line.get(name)) for name in names] for line in lines])
    return out.getvalue()


def escape(text: str) -> str:
    """The text on one line, with an apostrophe before it where a spreadsheet would otherwise run it as a formula."""
    text = _BREAKS.sub(" ", text)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def _names(table: Table) -> list[str]:
    columns = [column.key + suffix for column in table.columns for suffix in PARTS[column.kind]]
    return ["table", "title", *table.context, *columns]


def _fields(table: Table, row: Row) -> dict[str, str | int | float | None]:
    fields: dict[str, str | int | float | None] = {"table": table.name, "title": table.title, **table.context}
    for column, entry in zip(table.columns, row.entries, strict=True):
        fields |= dict(zip((column.key + suffix for suffix in PARTS[column.kind]), entry.values, strict=False))
        if column.key.startswith("published_") and entry.values[0] is not None:
            fields[column.key] = entry.values[0]
    return fields | {"row_kind": row.kind, "note": row.note or None}


def _text(value: str | int | float | None) -> str:
    if value is None:
        return ""
    # repr is the shortest text that reads back as the same float
    return escape(value) if isinstance(value, str) else repr(value)
