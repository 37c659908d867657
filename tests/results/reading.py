"""What stands where in a table."""

from __future__ import annotations

from results.table import Row, Table


def labels(table: Table) -> list[str]:
    return [str(value(table, row, "label")) for row in table.rows]


def value(table: Table, row: Row, key: str, part: int = 0) -> object:
    index = next(i for i, column in enumerate(table.columns) if column.key == key)
    return row.entries[index].values[part]


def row_of(table: Table, label: str) -> Row:
    return next(row for row in table.rows if value(table, row, "label") == label)
