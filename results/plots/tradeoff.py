"""What a method gives against what it costs."""

from __future__ import annotations

import math
from typing import Literal

from results.analysis.blocks import Block
from results.metrics import metric_column
from results.plots.canvas import INK, MUTED, PAPER, Plot, finish, label_width, make_axes, short
from results.plots.series import Series, choose
from results.table import counted
from results.tables.cost import relative_time

_WIDTH, _HEIGHT = 400.0, 260.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 16.0, 14.0, 46.0
_SIZE = 11.0
_LINE = 13.0
_Box = tuple[float, float, float, float]
_Anchor = Literal["left", "center", "right"]
_BESIDE: tuple[tuple[float, _Anchor], ...] = ((8, "left"), (-8, "right"))


def tradeoff(block: Block, name: str) -> Plot | None:
    """Student score against time in training as a multiple of the baseline's.

    Args:
        block: whose rows to draw.
        name: unique in the page.

    Returns:
        None where fewer than two rows have both.
    """
    points: list[tuple[float, float, bool, str, Series | None]] = []
    known = {id(series.line): series for series in choose(block)}
    for line in block.lines:
        time, values = relative_time(block, line), list(line.values("student").values())
        if time is not None and values:
            mean = math.fsum(values) / len(values)
            points.append((time, mean, block.stands(line), short(line.label), known.get(id(line))))
    if len(points) < 2 or block.primary is None:
        return None
    axes = make_axes(_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM)
    xs, ys = [x for x, *_ in points], [y for _, y, *_ in points]
    axes.set_xlim(*_padded(xs))
    axes.set_ylim(*_padded(ys))
    axes.grid(axis="both")
    for x, y, stands, _, series in points:
        color = series.color if series else MUTED
        axes.plot([x], [y], "o", color=color if stands else PAPER, markeredgecolor=color,
                  markersize=8 if series else 5, markeredgewidth=1.5, clip_on=False)  # fmt: skip
    at = [tuple(axes.transData.transform((x, y))) for x, y, *_ in points]
    texts = [label if series else "" for *_, label, series in points]
    for (x, y, *_), label, offset in zip(points, texts, _places(at, texts), strict=True):
        if label and offset is not None:
            axes.annotate(label, (x, y), offset[:2], textcoords="offset points", ha=offset[2], size=_SIZE, color=INK)
    axes.set_xlabel(f"training time, × {short(block.baseline.label) if block.baseline else ''}")
    axes.set_ylabel(metric_column(block.primary.metric, higher_is_better=block.primary.higher_is_better).heading)
    left_out = sum(not text for text in texts)
    more = f" Small grey dots: {counted(left_out, 'further row')}." if left_out else ""
    about = f"Mean score of the student against time per step relative to the baseline.{more}"
    named = ", ".join(filter(None, texts))
    return finish(axes, name, "Score against cost", about, f"{short(block.title)}: {named}.")


def _padded(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.15 * (high - low) or max(0.05 * abs(high), 0.1)
    return low - margin, high + margin


_SIDES: tuple[tuple[float, float, _Anchor], ...] = (
    (8, -4, "left"),
    (-8, -4, "right"),
    (0, 8, "center"),
    (0, -17, "center"),
    *((dx, dy, side) for dy in (9.0, -17.0, 20.0, -28.0) for dx, side in _BESIDE),
)
"""Where a label may stand, best first: offset from its point in pixels, and the end that is tied to it."""


def _places(points: list[tuple[float, ...]], texts: list[str]) -> list[tuple[float, float, _Anchor] | None]:
    """Where each label goes so that it meets no point and no other label; None: nowhere."""
    taken: list[_Box] = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    found: list[tuple[float, float, _Anchor] | None] = []
    for (x, y), text in zip(points, texts, strict=True):
        wide = label_width([text], _SIZE)
        free = next((side for side in _SIDES if text and _is_free(_box(x, y, side, wide), taken)), None)
        found.append(free)
        if free:
            taken.append(_box(x, y, free, wide))
    return found


def _box(x: float, y: float, side: tuple[float, float, _Anchor], wide: float) -> _Box:
    left = x + side[0] - {"left": 0.0, "center": wide / 2, "right": wide}[side[2]]
    return left, y + side[1] - 2, left + wide, y + side[1] + _LINE - 3


def _is_free(box: _Box, taken: list[_Box]) -> bool:
    left, low, right, high = box
    if left < _LEFT or right > _WIDTH - 4 or low < _BOTTOM or high > _HEIGHT:
        return False
    return all(left >= r or right <= a or low >= t or high <= b for a, b, r, t in taken)
