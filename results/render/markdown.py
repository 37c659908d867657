"""Tables as GitHub-flavoured Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from results.table import Row, Table

# What Markdown would take for markup; the pipe ends a table's cell.
_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~$])")


def render(tables: Sequence[Table]) -> str:
    """The tables one after the other, each under a heading."""
    return "\n".join(_table(table) for table in tables)


def escape(text: str) -> str:
    """The text as literal Markdown on one line; HTML in it is shown, not obeyed."""
    one_line = " ".join(text.split())
    return _SPECIAL.sub(r"\\\1", html.escape(one_line, quote=False))


def _table(table: Table) -> str:
    lines = [f"## {escape(table.title)}", ""]
    if table.subtitle:
        lines += [escape(table.subtitle), ""]
    if table.rows:
        lines.append(_line([escape(column.heading) for column in table.columns]))
        lines.append(_line(["---:" if column.numeric else ":---" for column in table.columns]))
        lines += [_line([_entry(table, row, index) for index in range(len(table.columns))]) for row in table.rows]
        lines.append("")
    label = next(i for i, column in enumerate(table.columns) if column.key == "label")
    failed = [f"- {escape(table.text(row, label))}: {escape(row.note)}" for row in table.rows if row.note]
    lines += [*failed, ""] if failed else []
    for note in table.notes:
        lines += [escape(note), ""]
    return "\n".join(lines)


def _entry(table: Table, row: Row, index: int) -> str:
    text = escape(table.text(row, index))
    if row.kind == "reference" and table.columns[index].key == "label":
        text = f"*{text}*"
    return f"**{text}**" if row.entries[index].bold else text


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(texts) + " |"
