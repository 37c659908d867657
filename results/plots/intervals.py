"""The score of every row: the mean, its 95 % interval, and each seed as a dot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from results.analysis import statistics
from results.analysis.blocks import Block, Line
from results.analysis.ranking import best_lines, ranked
from results.metrics import metric_column
from results.plots.canvas import BAND, INK, MUTED, PAPER, SERIES, Plot, finish, label_width, make_axes, short

_WIDTH, _ROW, _BOTTOM = 760.0, 28.0, 46.0
_TOP = 40.0
_BELOW = 0.33
"""How far below its row's bar a seed's dot stands, so that neither hides the other."""
_REACH = 1.0
"""How far an interval may widen the axis, as a multiple of what the seeds span; with two seeds it can be vast."""


def intervals(block: Block, name: str) -> Plot | None:
    """One row per method, in the order of the score table.

    Args:
        block: whose rows to draw.
        name: unique in the page.

    Returns:
        None when no row has a score.
    """
    lines = _in_order(block)
    primary = block.primary
    if primary is None or not any(line.records for line in lines):
        return None
    labels = [short(line.label) for line in lines]
    left = max(80.0, label_width(labels) + 16)
    axes = make_axes(_WIDTH, _TOP + _BOTTOM + _ROW * len(lines), left, 24, _TOP, _BOTTOM)
    references = _references(block)
    low, high = _limits(lines, [value for _, value in references])
    axes.set_xlim(low, high)
    axes.set_ylim(len(lines) - 0.45, -0.55)
    _draw_references(axes, references, low, high)
    best = {id(line) for line in best_lines(block)}
    standing = {id(line) for line in lines if block.stands(line)}
    _draw_rows(axes, lines, (low, high), best, standing)
    axes.set_yticks(range(len(lines)), labels)
    for tick, line in zip(axes.get_yticklabels(), lines, strict=True):
        tick.set_color(INK if id(line) in standing else MUTED)
        tick.set_fontweight("bold" if id(line) in best else "normal")
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(metric_column(primary.metric, higher_is_better=primary.higher_is_better).heading)
    about = (
        "Bar: the mean's 95 % interval, cut with an arrow where it would leave the picture. Mark: the mean. "
        "Dots below: single seeds. Hollow marks and grey labels: unranked rows."
    )
    return finish(axes, name, "Scores with their uncertainty", about, f"{short(block.title)}: {', '.join(labels)}.")


def _in_order(block: Block) -> list[Line]:
    first = ranked(block)
    placed = {id(line) for line in first}
    return first + sorted((line for line in block.lines if id(line) not in placed), key=lambda line: line.label)


def _references(block: Block) -> list[tuple[str, float]]:
    """Label and score of what the rows are held against."""
    found = []
    if block.baseline is not None:
        base = statistics.summarize(list(block.baseline.values("student").values()))
        found += [(short(block.baseline.label), base.mean)] if base else []
    solo = statistics.summarize(list(block.solo_teacher.values()))
    found += [("teacher alone", solo.mean)] if solo else []
    found += [("frozen teacher", score) for score in block.frozen_teacher]
    return found


def _limits(lines: list[Line], references: list[float]) -> tuple[float, float]:
    """Ends of the axis: all seeds and references are inside, intervals as far as is reasonable."""
    values = [value for line in lines for value in line.values("student").values()]
    inside = [*values, *references]
    low, high = min(inside), max(inside)
    reach = _REACH * (high - low) or 1.0
    summaries = [s for line in lines if (s := statistics.summarize(list(line.values("student").values())))]
    lows = [s.low for s in summaries if s.low is not None]
    highs = [s.high for s in summaries if s.high is not None]
    wide_low = max(min([low, *lows]), low - reach)
    wide_high = min(max([high, *highs]), high + reach)
    margin = 0.03 * (wide_high - wide_low) or 0.5
    return wide_low - margin, wide_high + margin


def _draw_references(axes: Axes, references: list[tuple[str, float]], low: float, high: float) -> None:
    """Upright lines with their names above; names that would meet take turns on two levels."""
    level, before = 0, -math.inf
    for number, (label, value) in enumerate(sorted(references, key=lambda item: item[1])):
        axes.axvline(value, color=MUTED, linewidth=1.2, dashes=(4, 3) if number % 2 else (1, 2), zorder=1)
        share = (value - low) / (high - low)
        level = 1 - level if share - before < 0.25 else 0
        before = share
        side = "left" if share < 0.2 else "right" if share > 0.8 else "center"
        axes.annotate(
            f"{label} {value:.2f}", (share, 1), (0, 5 + 15 * level), xycoords="axes fraction",
            textcoords="offset points", color=MUTED, ha=side, size=11,
        )  # fmt: skip


def _draw_rows(axes: Axes, lines: list[Line], limits: tuple[float, float], best: set[int], standing: set[int]) -> None:
    """Bars, seeds and means; things that look alike are drawn together, which takes a fraction of the time."""
    means: dict[tuple[bool, bool], list[tuple[float, int]]] = {}
    bars: list[tuple[int, float, float]] = []
    arrows: dict[str, list[tuple[float, int]]] = {"<": [], ">": []}
    seeds: list[tuple[float, float]] = []
    for place, line in enumerate(lines):
        values = list(line.values("student").values())
        summary = statistics.summarize(values)
        if summary is None:
            axes.annotate(short(line.state), (0, place), (6, -4), xycoords=("axes fraction", "data"),
                          textcoords="offset points", color=MUTED, size=11, style="italic")  # fmt: skip
            continue
        means.setdefault((id(line) in standing, id(line) in best), []).append((summary.mean, place))
        seeds += [(value, place + _BELOW) for value in values]
        if summary.low is not None and summary.high is not None:
            bars.append((place, max(summary.low, limits[0]), min(summary.high, limits[1])))
            arrows["<"] += [(limits[0], place)] if summary.low < limits[0] else []
            arrows[">"] += [(limits[1], place)] if summary.high > limits[1] else []
    places, lows, highs = zip(*bars, strict=True) if bars else ((), (), ())
    axes.hlines(places, lows, highs, color=BAND, linewidth=8, zorder=2)
    for arrow, points in arrows.items():
        _dots(axes, points, marker=arrow, color=MUTED, markersize=5, zorder=3)
    _dots(axes, seeds, marker="o", color=SERIES[0], markersize=4.5, markeredgewidth=0, zorder=4)
    for (stands, among_best), points in sorted(means.items()):
        color, size = INK if stands else MUTED, 8.0 if among_best else 6.5
        _dots(axes, points, marker="D", color=color if stands else PAPER, markeredgecolor=color,
              markersize=size, zorder=3)  # fmt: skip


def _dots(axes: Axes, points: Sequence[tuple[float, float]], **style: Any) -> None:
    if points:
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, linestyle="none", clip_on=False, **style)
