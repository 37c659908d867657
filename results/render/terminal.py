"""Tables for a terminal. One that is too wide continues below itself, its first columns repeated."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from results.tables import Row, Table

_KEYS = {"rank", "label", "scored", "pair"}
"""Columns that tell rows apart; every part of a split table begins with them."""
_STYLES = {"ranked": "", "baseline": "cyan", "reference": "italic dim", "unranked": "dim"}
_LONGEST = 44
"""Widest text column; longer labels and lists wrap."""
_WRAPPED_HEADING = 14


def render(tables: Sequence[Table], width: int = 100, color: bool = False) -> str:
    """The tables as text.

    Args:
        tables: what to show.
        width: of the terminal, in characters.
        color: whether to use ANSI colours and bold; without them bold entries carry a star.
    """
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=color,
        no_color=not color,
        color_system="standard" if color else None,
        highlight=False,
        emoji=False,
        markup=False,
        legacy_windows=False,
    )
    for number, table in enumerate(tables):
        if number:
            console.print()
        _print(console, table, width, color)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _print(console: Console, table: Table, width: int, color: bool) -> None:
    console.print(Text(_printable(table.title), "bold"))
    if table.subtitle:
        console.print(Text(_printable(table.subtitle), "dim"))
    if table.rows:
        for part in _parts(table, width):
            console.print(_grid(table, part, color))
    for row in table.rows:
        if row.note:
            console.print(Text(f"! {_label(table, row)}: {_printable(row.note)}", "yellow"))
    for note in table.notes:
        console.print(Text(_printable(note), "dim"))


def _grid(table: Table, part: Sequence[int], color: bool) -> Grid:
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold" if color else "")
    for index in part:
        column = table.columns[index]
        flush = "right" if column.numeric or column.key in {"rank", "n"} else "left"
        grid.add_column(
            Text(_printable(column.heading)),
            justify=flush,  # type: ignore[arg-type]
            vertical="bottom",
            no_wrap=column.numeric and cell_len(column.heading) <= _WRAPPED_HEADING,
            max_width=None if column.numeric else _LONGEST,
        )
    for row in table.rows:
        grid.add_row(*(_cell(table, row, index, color) for index in part), style=_STYLES[row.kind] if color else "")
    return grid


def _cell(table: Table, row: Row, index: int, color: bool) -> Text:
    text = _printable(table.text(row, index))
    bold = row.entries[index].bold
    if bold and not color and table.columns[index].numeric:
        text = f"*{text}"
    return Text(text, "bold" if bold and color else "")


def _parts(table: Table, width: int) -> list[list[int]]:
    """Which columns stand together so that nothing is wider than the terminal."""
    keys = [i for i, column in enumerate(table.columns) if column.key in _KEYS]
    base = sum(_width(table, i) + 2 for i in keys)
    parts, used = [list(keys)], base
    for index in range(len(table.columns)):
        if index in keys:
            continue
        wide = _width(table, index) + 2
        if used + wide - 2 > width and len(parts[-1]) > len(keys):
            parts.append(list(keys))
            used = base
        parts[-1].append(index)
        used += wide
    return parts


def _width(table: Table, index: int) -> int:
    column = table.columns[index]
    longest = max((cell_len(table.text(row, index)) + row.entries[index].bold for row in table.rows), default=0)
    if not column.numeric:
        longest = min(longest, _LONGEST)
    heading = cell_len(column.heading)
    if heading > _WRAPPED_HEADING:
        heading = max(cell_len(word) for word in column.heading.split())
    return max(longest, heading)


def _label(table: Table, row: Row) -> str:
    index = next(i for i, column in enumerate(table.columns) if column.key == "label")
    return _printable(table.text(row, index))


def _printable(text: str) -> str:
    """The text less control characters: what a user's label holds must not drive the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)
