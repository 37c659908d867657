"""Which rows of a block are told apart by colour, and how each is drawn in all of the block's plots."""

from __future__ import annotations

from dataclasses import dataclass

from results.analysis.blocks import Block, Line
from results.analysis.ranking import ranked
from results.plots.canvas import MUTED, SERIES

_DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (2, 2), (8, 2, 2, 2))
"""Solid and three kinds of broken lines, so that colour is not the only difference."""
_BASELINE_DASH = (1, 2)


@dataclass(frozen=True)
class Series:
    """One row as it is drawn.

    Attributes:
        line: the row.
        color: as plots know it.
        variable: the same as the page's style sheet knows it.
        dash: lengths of strokes and gaps; empty for a solid line.
    """

    line: Line
    color: str
    variable: str
    dash: tuple[float, ...]


def choose(block: Block) -> list[Series]:
    """The baseline and the best rows, as many as can be told apart; rows without a score are never among them."""
    order = ranked(block)
    placed = {id(line) for line in order}
    order += [line for line in block.lines if line.records and id(line) not in placed]
    others = [line for line in order if line is not block.baseline][: len(SERIES)]
    chosen = [
        Series(line, color, f"--s{number + 1}", _DASHES[number % len(_DASHES)])
        for number, (line, color) in enumerate(zip(others, SERIES, strict=False))
    ]
    if block.baseline is not None:
        chosen.append(Series(block.baseline, MUTED, "--muted", _BASELINE_DASH))
    return chosen
