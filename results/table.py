"""One table as every renderer understands it: columns, rows, notes. Numbers stay numbers until they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["text", "count", "number", "p", "spread", "interval", "difference", "estimate", "change"]
"""How the values of an entry read: one text; one count; one number; one p-value; mean and std; both ends; mean and
p-value; a value and both ends of its interval; the same of a difference, with its sign."""
RowKind = Literal["ranked", "baseline", "reference", "unranked"]
FileForm = Literal["md", "tex", "csv"]
"""Suffixes of the files that tables are written to."""

PARTS: Mapping[Kind, tuple[str, ...]] = {
    "text": ("",),
    "count": ("",),
    "number": ("",),
    "p": ("",),
    "spread": ("", "_std"),
    "interval": ("_low", "_high"),
    "difference": ("", "_p"),
    "estimate": ("", "_low", "_high"),
    "change": ("", "_low", "_high"),
}
"""Kind to the suffixes of its values' names in plain tables."""

NOTHING = "–"
"""Shown where there is no value."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: its plain name, unique in the table.
        title: its heading.
        kind: how its entries read.
        digits: decimals shown; plain tables keep all.
        about: one sentence for people who wonder.
        best: ``high`` or ``low``: the better direction; shown as an arrow.
    """

    key: str
    title: str
    kind: Kind = "text"
    digits: int = 2
    about: str = ""
    best: Literal["high", "low", ""] = ""

    @property
    def numeric(self) -> bool:
        """Whether it holds numbers (and is set flush right)."""
        return self.kind != "text"

    @property
    def heading(self) -> str:
        """The title with an arrow for the better direction."""
        return self.title + {"high": " ↑", "low": " ↓", "": ""}[self.best]


@dataclass(frozen=True)
class Entry:
    """What stands at one place: the values its column's kind asks for; all None for nothing."""

    values: tuple[str | int | float | None, ...] = (None,)
    bold: bool = False


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        entries: one per column.
        kind: how it takes part: ranked; the baseline; a reference line; shown, but unranked.
        note: why it is unranked; shown under the table.
    """

    entries: tuple[Entry, ...]
    kind: RowKind = "ranked"
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: what it is a case of: scores, cost, claims, summary, insight-1.
        title: its heading.
        subtitle: benchmark, protocol and the like, in one line.
        context: the same as plain names and values, which plain tables repeat on each line.
        columns: left to right.
        rows: top to bottom.
        notes: sentences under the table.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    subtitle: str = ""
    context: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def text(self, row: Row, index: int) -> str:
        """What stands in a row's column, as plain text."""
        return entry_text(self.columns[index], row.entries[index])

    def without_empty(self, keep: frozenset[str] = frozenset()) -> Table:
        """The table less the columns that hold nothing in any row, save those in ``keep``."""
        used = [
            i
            for i, column in enumerate(self.columns)
            if column.key in keep or any(value is not None for row in self.rows for value in row.entries[i].values)
        ]
        columns = tuple(self.columns[i] for i in used)
        rows = tuple(Row(tuple(row.entries[i] for i in used), row.kind, row.note) for row in self.rows)
        return Table(self.name, self.title, columns, rows, self.subtitle, self.context, self.notes)


def entry_text(column: Column, entry: Entry) -> str:
    """An entry as plain text, e.g. ``83.20 ± 0.31``, ``[82.43, 83.97]``, ``+1.20 (p=0.013)``."""
    first, second = entry.values[0], entry.values[1] if len(entry.values) > 1 else None
    if first is None:
        return NOTHING
    if isinstance(first, str):
        return first
    if column.kind == "count":
        return grouped(first)
    if column.kind == "p":
        return p_text(first).removeprefix("p").removeprefix("=")
    if column.kind == "interval":
        return f"[{_fixed(first, column.digits)}, {_fixed(second, column.digits)}]"
    if column.kind == "difference":
        return signed(first, column.digits) + (f" ({p_text(second)})" if second is not None else "")
    if column.kind in ("estimate", "change"):
        shown = signed(first, column.digits) if column.kind == "change" else _fixed(first, column.digits)
        ends = [_fixed(end, column.digits) for end in entry.values[1:] if end is not None]
        return f"{shown} [{', '.join(ends)}]" if ends else shown
    spread = f" ± {_fixed(second, column.digits)}" if second is not None else ""
    return _fixed(first, column.digits) + spread


def signed(value: float, digits: int) -> str:
    """A number with its sign; a true minus, and no sign for what rounds to zero."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def p_text(p: str | float) -> str:
    """A p-value: ``p=0.013``, ``p<0.001``."""
    return "p<0.001" if isinstance(p, float) and p < 0.001 else f"p={p:.3f}"


def grouped(value: float) -> str:
    """A whole number with its thousands set apart by thin spaces."""
    return f"{value:,.0f}".replace(",", "\u202f")


def counted(number: int, what: str) -> str:
    """``1 cell``, ``2 cells``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def quoted(labels: Sequence[str]) -> str:
    """Labels of rows in quotes, as :func:`listed`."""
    return listed([f"'{label}'" for label in labels])


def _fixed(value: str | float | None, digits: int) -> str:
    if value is None or isinstance(value, str):
        return value or NOTHING
    text = f"{value:.{digits}f}"
    return (text[1:] if text.startswith("-") and float(text) == 0 else text).replace("-", "−")
