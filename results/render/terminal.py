"""Tables for a terminal. One that is too wide continues below itself, its first columns repeated.

Laid out here rather than by rich's tables, which take a tenth of a millisecond for every cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells

from results.table import Row, Table

_KEYS = {"rank", "label", "scored", "pair"}
"""Columns that tell rows apart; every part of a split table begins with them."""
_FLUSH_RIGHT = {"rank", "n"}
_LONGEST = 44
"""Widest text column; longer labels and lists wrap."""
_WRAPPED_HEADING = 14
_GAP = "  "
_BOLD, _DIM, _YELLOW = "1", "2", "33"
_STYLES = {"ranked": "", "baseline": "36", "reference": "3;2", "unranked": _DIM}
"""ANSI codes by kind of row: cyan; italic and dim; dim."""


def render(tables: Sequence[Table], width: int = 100, color: bool = False) -> str:
    """The tables as text.

    Args:
        tables: what to show.
        width: of the terminal, in characters.
        color: whether to use ANSI colours and bold; without them bold entries carry a star.
    """
    return "\n".join("\n".join(_lines(_Sheet.of(table, color), width, color)) + "\n" for table in tables)


@dataclass(frozen=True)
class _Sheet:
    """A table as text, before it is laid out.

    Attributes:
        table: where it comes from.
        headings: one per column.
        texts: row by row, column by column.
        widths: of the columns, in terminal cells.
    """

    table: Table
    headings: list[str]
    texts: list[list[str]]
    widths: list[int]

    @classmethod
    def of(cls, table: Table, color: bool) -> _Sheet:
        headings = [_printable(column.heading) for column in table.columns]
        texts = [[_text(table, row, index, color) for index in range(len(table.columns))] for row in table.rows]
        widths = [_width(table, index, headings[index], texts) for index in range(len(table.columns))]
        return cls(table, headings, texts, widths)


def _lines(sheet: _Sheet, width: int, color: bool) -> list[str]:
    table = sheet.table
    lines = [_paint(line, _BOLD, color) for line in _wrap(_printable(table.title), width)]
    if table.subtitle:
        lines += [_paint(line, _DIM, color) for line in _wrap(_printable(table.subtitle), width)]
    if table.rows:
        for part in _parts(sheet, width):
            lines += _grid(sheet, part, color)
    label = next(i for i, column in enumerate(table.columns) if column.key == "label")
    for row in table.rows:
        if row.note:
            said = f"! {_printable(table.text(row, label))}: {_printable(row.note)}"
            lines += [_paint(line, _YELLOW, color) for line in _wrap(said, width)]
    for note in table.notes:
        lines += [_paint(line, _DIM, color) for line in _wrap(_printable(note), width)]
    return lines


def _grid(sheet: _Sheet, part: Sequence[int], color: bool) -> list[str]:
    """Some columns of a table: heading, rule and rows."""
    heading = [_wrap(sheet.headings[i], sheet.widths[i]) for i in part]
    height = max(map(len, heading))
    raised = [[""] * (height - len(lines)) + lines for lines in heading]
    lines = [_paint(line, _BOLD, color) for line in _stack(sheet, part, raised)]
    lines.append("─" * (sum(sheet.widths[i] for i in part) + len(_GAP) * (len(part) - 1)))
    for row, texts in zip(sheet.table.rows, sheet.texts, strict=True):
        cells = [_wrap(texts[i], sheet.widths[i]) for i in part]
        bold = [color and row.entries[i].bold for i in part]
        lines += [_paint(line, _STYLES[row.kind], color) for line in _stack(sheet, part, cells, bold)]
    return lines


def _stack(sheet: _Sheet, part: Sequence[int], cells: list[list[str]], bold: Sequence[bool] = ()) -> list[str]:
    """Cells of one or more lines side by side, each padded to its column's width."""
    lines = []
    for level in range(max(map(len, cells))):
        pieces = []
        for place, (index, texts) in enumerate(zip(part, cells, strict=True)):
            text = texts[level] if level < len(texts) else ""
            space = " " * (sheet.widths[index] - cell_len(text))
            shown = _paint(text, _BOLD, bool(bold) and bold[place])
            pieces.append(space + shown if _flush_right(sheet.table, index) else shown + space)
        lines.append(_GAP.join(pieces).rstrip())
    return lines


def _parts(sheet: _Sheet, width: int) -> list[list[int]]:
    """Which columns stand together so that nothing is wider than the terminal."""
    keys = [i for i, column in enumerate(sheet.table.columns) if column.key in _KEYS]
    base = sum(sheet.widths[i] + len(_GAP) for i in keys)
    parts, used = [list(keys)], base
    for index in range(len(sheet.widths)):
        if index in keys:
            continue
        if used + sheet.widths[index] > width and len(parts[-1]) > len(keys):
            parts.append(list(keys))
            used = base
        parts[-1].append(index)
        used += sheet.widths[index] + len(_GAP)
    return parts


def _width(table: Table, index: int, heading: str, texts: list[list[str]]) -> int:
    longest = max((cell_len(row[index]) for row in texts), default=0)
    if not table.columns[index].numeric:
        longest = min(longest, _LONGEST)
    wide = cell_len(heading)
    if wide > _WRAPPED_HEADING:
        wide = max(cell_len(word) for word in heading.split())
    return max(longest, wide, 1)


def _flush_right(table: Table, index: int) -> bool:
    return table.columns[index].numeric or table.columns[index].key in _FLUSH_RIGHT


def _text(table: Table, row: Row, index: int, color: bool) -> str:
    text = _printable(table.text(row, index))
    starred = row.entries[index].bold and not color and table.columns[index].numeric
    return f"*{text}" if starred else text


def _wrap(text: str, width: int) -> list[str]:
    """The text in lines of at most ``width`` terminal cells, broken between words where that is possible."""
    if cell_len(text) <= width:
        return [text]
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if cell_len(joined) <= width:
            lines[-1] = joined
            continue
        chunks = chop_cells(word, width)
        lines += chunks if lines[-1] else []
        if not lines[-1]:
            lines[-1:] = chunks
    return lines


def _paint(text: str, codes: str, color: bool) -> str:
    """The text in a style; a style within it ends on its own, so this one is begun anew after it."""
    if not color or not codes or not text:
        return text
    return f"\x1b[{codes}m" + text.replace("\x1b[0m", f"\x1b[0m\x1b[{codes}m") + "\x1b[0m"


def _printable(text: str) -> str:
    """The text less control characters: what a user's label holds must not drive the terminal."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)
