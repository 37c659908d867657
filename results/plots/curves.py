"""Curves over epochs: how students and co-trained teachers come along, and what methods log on the way."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

from matplotlib.ticker import MaxNLocator

from results.analysis.blocks import Block, Line
from results.metrics import metric_column
from results.plots.canvas import MUTED, Plot, finish, make_axes, short
from results.plots.series import Series
from results.records.schema import Record

_WIDTH, _HEIGHT = 400.0, 260.0
_MOST_POINTS = 120
_Curve = list[float | None]
_Means = list[tuple[float, float]]
_Read = Callable[[Line], _Means]

LOGGED: Mapping[str, tuple[str, str]] = {
    "similarity_mean": ("ADM: mean similarity", "How alike both networks' features are, over positions."),
    "similarity_spread": ("ADM: spread of similarity", "How much similarity varies over the positions of an image."),
    "consensus_entropy": ("ADM: entropy of consensus weights", "1: all positions weigh the same."),
    "divergence_entropy": ("ADM: entropy of divergence weights", "1: all positions weigh the same."),
}
"""End of a logged curve's name to a title and an explanation."""


def curves(block: Block, chosen: Sequence[Series], name: str) -> list[Plot]:
    """Every plot over epochs for which the records hold curves.

    Args:
        block: whose rows to draw.
        chosen: the rows that are drawn.
        name: unique in the page.
    """
    metric = block.primary.metric if block.primary else ""
    unit = metric_column(metric).title
    student, teacher = f"validation.student.{metric}", f"validation.teacher.{metric}"
    plots = [
        _plot(chosen, lambda line: _mean(line, student), f"{name}-student", "Student on validation data", unit,
              "Mean over seeds, by epoch.")
        or _plot(chosen, lambda line: _mean(line, "train.student.task"), f"{name}-student", "Student's training loss",
                 "task loss", "Mean over seeds, by epoch; these records hold no validation scores.")
    ]  # fmt: skip
    if block.cell.regime == "online" and (baseline := block.baseline) is not None:
        others = [series for series in chosen if series.line is not baseline]
        title, about = "Teacher minus solo teacher", "Validation score of the co-trained teacher minus that of "
        about += "the teacher that learned alone, by epoch; mean over the seeds that both have."
        read: _Read = lambda line: _against(line, baseline, teacher)  # noqa: E731
        plots.append(_plot(others, read, f"{name}-teacher", title, f"Δ {unit}", about, zero=True))
    for ending, (title, about) in LOGGED.items():
        plots.append(_plot(chosen, _logged(ending), f"{name}-{ending}", title, ending.replace("_", " "), about))
    return [plot for plot in plots if plot is not None]


def _plot(
    chosen: Sequence[Series], read: _Read, name: str, title: str, ylabel: str, about: str, zero: bool = False
) -> Plot | None:
    """One panel; None when no row has the curve."""
    drawn = [(series, means) for series in chosen if (means := _thinned(read(series.line)))]
    if not drawn:
        return None
    axes = make_axes(_WIDTH, _HEIGHT, 58, 14, 12, 46)
    if zero:
        axes.axhline(0, color=MUTED, linewidth=1.2, dashes=(4, 3))
    for series, means in reversed(drawn):  # the best row lies on top
        xs, ys = zip(*means, strict=True)
        style = (0, series.dash) if series.dash else "solid"
        mark = "o" if len(means) == 1 else None
        axes.plot(xs, ys, color=series.color, linestyle=style, marker=mark)
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel(ylabel)
    names = ", ".join(short(series.line.label) for series, _ in drawn)
    return finish(axes, name, title, about, f"Drawn: {names}.", legend=True)


def _mean(line: Line, key: str) -> _Means:
    """Epoch and mean over seeds, for the epochs at which every seed that has the curve has a value."""
    records = [record for _, record in sorted(line.records.items()) if _has(record, key)]
    return _means(records, [record.curves[key] for record in records])


def _against(line: Line, baseline: Line, key: str) -> _Means:
    """As :func:`_mean`, for the differences from the baseline's curve, seed by seed."""
    seeds = sorted(
        seed for seed in line.records.keys() & baseline.records.keys()
        if _has(line.records[seed], key) and _has(baseline.records[seed], key)
    )  # fmt: skip
    differences: list[_Curve] = [
        [None if a is None or b is None else a - b
         for a, b in zip(line.records[seed].curves[key], baseline.records[seed].curves[key], strict=False)]
        for seed in seeds
    ]  # fmt: skip
    return _means([line.records[seed] for seed in seeds], differences)


def _logged(ending: str) -> _Read:
    """Reads the curve that a part of a method logs under a name; of several parts, the first by name."""
    wanted = re.compile(rf"log\.(?:.+\.)?{ending}")

    def read(line: Line) -> _Means:
        keys = sorted({key for record in line.records.values() for key in record.curves if wanted.fullmatch(key)})
        return _mean(line, keys[0]) if keys else []

    return read


def _has(record: Record, key: str) -> bool:
    return any(value is not None for value in record.curves.get(key, ()))


def _means(records: Sequence[Record], curves: Sequence[_Curve]) -> _Means:
    if not records:
        return []
    length = min(map(len, curves))
    epochs = records[0].curves.get("epoch") or [float(i + 1) for i in range(length)]
    found = []
    for index, epoch in enumerate(epochs[:length]):
        values = [curve[index] for curve in curves]
        known = [value for value in values if value is not None]
        if epoch is not None and len(known) == len(values):
            found.append((epoch, math.fsum(known) / len(known)))
    return found


def _thinned(means: _Means) -> _Means:
    """At most a point per few pixels; the last stays, as it is what the tables show."""
    step = -(-len(means) // _MOST_POINTS)
    return means if step <= 1 else [*means[:-1][::step], means[-1]]
