"""Draws pictures of the README and of docs/adm.md from committed records and sample grids: ``python docs/pictures.py``.

Each is drawn twice, for light and for dark pages. ``insight.png`` and ``adm-weights.png`` are not drawn here: they are
what ``adm insight`` writes of trained cells, and ``make pictures`` trains these first.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import imread
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from docs.drawing import DPI, PX, THEMES, Theme, png, style  # noqa: E402
from results import report  # noqa: E402
from results.analysis.blocks import Block, Line  # noqa: E402
from results.analysis.ranking import best_lines, ranked  # noqa: E402
from results.analysis.statistics import Summary, summarize  # noqa: E402
from results.table import Row, signed  # noqa: E402
from results.tables.controls import CONTROLS  # noqa: E402

PICTURES = HERE / "pictures"
MADE_WITH = PICTURES / "matplotlib.txt"
"""The version of matplotlib, which decides the last bytes of a picture."""
LEADERBOARDS = HERE.parent / "results" / "leaderboards"

PANELS = (
    ("quick", "Classification", "top-1 in %, digit-hues"),
    ("seg-quick", "Segmentation", "mIoU in %, shape-scenes"),
    ("diffusion-quick", "Diffusion", "Fréchet distance ↓, digits"),
)
"""Suite, heading, and what the scores are: one column of the leaderboard picture each."""
REGIMES = (("Offline", "a frozen teacher"), ("Online", "both train together"))
SHOWN = (
    ("a09c4b856873a18c", "teacher"),
    ("6fa4db873a567515", "output+fitnet"),
    ("e70a0926e8b078d3", "none"),
    ("f282603923671a7b", "mutual+adm"),
)
"""Cells of ``diffusion-quick``, seed 0, and which of the two networks in a cell's grid is shown."""
CONTROLLED = ("adm-on-dml", "adm-alone", "adm-on-others", "adm-selective", "adm-on-denoisers")
"""Suites whose rows are drawn against their controls, in docs/adm.md."""
_NETWORKS = (("difference", "student"), ("teacher_difference", "teacher"))
"""Column of the table of controls, and whose scores it compares."""
NOISES = 15
"""How many of a grid's sixty-four noises are shown."""
_WIDTH, _LEFT, _BETWEEN, _RIGHT = 1080, 120, 172, 56
_EDGE, _TOP, _HEAD, _ROW, _SCALE, _FOOT = 16, 56, 50, 24, 30, 36
_LEGEND = (
    "Diamond: mean over seeds (dots). Bar: its 95 % interval, with an arrow where it goes on. "
    "Further right is better. Bold: the best, and what cannot be told from it. Orange: with ADM."
)


def pictures() -> Iterator[tuple[str, bytes]]:
    """File name to PNG of every picture that is drawn here; the same bytes for the same data and matplotlib."""
    for theme in THEMES:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(style(theme))
            yield f"leaderboard-{theme.name}.png", leaderboard(theme)
            yield f"samples-{theme.name}.png", samples(theme)
            for suite in CONTROLLED:
                yield f"{suite}-{theme.name}.png", controls(theme, suite)


def leaderboard(theme: Theme) -> bytes:
    """A PNG of the score of every row: a column per task, offline above online; further right is better."""
    found = {suite: report.load(LEADERBOARDS / suite, suite).blocks for suite, _, _ in PANELS}
    rows = [
        [next(block for block in found[suite] if block.cell.regime == regime.lower()) for suite, _, _ in PANELS]
        for regime, _ in REGIMES
    ]
    tall = [_ROW * max(len(block.lines) for block in blocks) for blocks in rows]
    height = _TOP + sum(tall) + (_HEAD + _SCALE) * len(rows) + _FOOT
    side = (_WIDTH - _LEFT - _RIGHT - _BETWEEN * (len(PANELS) - 1)) / len(PANELS)
    lefts = [_LEFT + number * (side + _BETWEEN) for number in range(len(PANELS))]
    figure = Figure(figsize=(_WIDTH * PX / 72, height * PX / 72), dpi=DPI)
    FigureCanvasAgg(figure)
    for (_, heading, about), left in zip(PANELS, lefts, strict=True):
        figure.text(left / _WIDTH, 1 - 12 / height, heading, size=13, weight="bold", va="top")
        figure.text(left / _WIDTH, 1 - 35 / height, about, size=8.5, color=theme.muted, va="top")
    y = float(_TOP)
    for blocks, (regime, about), room in zip(rows, REGIMES, tall, strict=True):
        figure.text(_EDGE / _WIDTH, 1 - (y + 10) / height, regime, size=10, weight="bold", va="top")
        figure.text(_EDGE / _WIDTH, 1 - (y + 26) / height, about, size=8.5, color=theme.muted, va="top")
        y += _HEAD
        for block, left in zip(blocks, lefts, strict=True):
            own = _ROW * len(block.lines)
            _scores(figure.add_axes((left / _WIDTH, 1 - (y + own) / height, side / _WIDTH, own / height)), block, theme)
        y += room + _SCALE
    figure.text(_EDGE / _WIDTH, 14 / height, _LEGEND, size=8, color=theme.muted, va="bottom")
    return png(figure)


def _scores(axes: Axes, block: Block, theme: Theme) -> None:
    """One block: for every row its mean, the mean's 95 % interval, its seeds, and the mean in figures."""
    lines, best = ranked(block), {id(line) for line in best_lines(block)}
    summaries = [_summary(line) for line in lines]
    low, high = _limits(block, lines, summaries)
    assert block.primary is not None
    axes.set_xlim((low, high) if block.primary.higher_is_better else (high, low))
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_yticks(range(len(lines)), [line.label for line in lines])
    for tick, line in zip(axes.get_yticklabels(), lines, strict=True):
        tick.set_color(_color(line, theme))
        tick.set_fontweight("bold" if id(line) in best else "normal")
    for label, value, dashes in _references(block):
        axes.axvline(value, color=theme.muted, linewidth=0.9, dashes=dashes, zorder=1)
        axes.annotate(label, (value, 1), (0, 3), xycoords=("data", "axes fraction"), textcoords="offset points",
                      size=7.5, color=theme.muted, ha="center")  # fmt: skip
    for place, (line, summary) in enumerate(zip(lines, summaries, strict=True)):
        color = _color(line, theme)
        if summary.low is not None and summary.high is not None:
            axes.hlines(place, max(summary.low, low), min(summary.high, high), color=color, alpha=0.35, linewidth=5)
            for end in [low] * (summary.low < low) + [high] * (summary.high > high):
                arrow = "<" if end == axes.get_xlim()[0] else ">"
                axes.plot(end, place, marker=arrow, color=color, markersize=4, clip_on=False)
        axes.plot(list(line.values("student").values()), [place] * summary.n, linestyle="none", marker="o",
                  markersize=3, color=color, markeredgewidth=0, alpha=0.75)  # fmt: skip
        axes.plot(summary.mean, place, marker="D", markersize=5, color=color, markeredgecolor=theme.paper,
                  markeredgewidth=0.8, zorder=4)  # fmt: skip
        axes.annotate(f"{summary.mean:.2f}", (1, place), (6, 0), xycoords=("axes fraction", "data"),
                      textcoords="offset points", va="center", size=9, color=color,
                      weight="bold" if id(line) in best else "normal")  # fmt: skip


def _summary(line: Line) -> Summary:
    summary = summarize(list(line.values("student").values()))
    assert summary is not None, f"{line.label} has no score"
    return summary


def _references(block: Block) -> list[tuple[str, float, tuple[int, int]]]:
    """What rows are held against, with a kind of line: the student without a teacher, and the teacher."""
    assert block.baseline is not None
    teacher = summarize(list(block.solo_teacher.values()))
    return [
        ("none", _summary(block.baseline).mean, (1, 2)),
        ("teacher", teacher.mean if teacher else block.frozen_teacher[0], (4, 3)),
    ]


def _limits(block: Block, lines: Sequence[Line], summaries: Sequence[Summary]) -> tuple[float, float]:
    """Ends of the scale: seeds and references are inside; intervals as far as half of these reach."""
    inside = [value for line in lines for value in line.values("student").values()]
    inside += [value for _, value, _ in _references(block)]
    low, high = min(inside), max(inside)
    reach = 0.5 * (high - low)
    ends = [end for s in summaries for end in (s.low, s.high) if end is not None]
    low, high = max(min([*ends, low]), low - reach), min(max([*ends, high]), high + reach)
    return low - 0.04 * (high - low), high + 0.04 * (high - low)


def _color(line: Line, theme: Theme) -> str:
    if line.method == "none":
        return theme.muted
    return theme.adm if "adm" in line.method.split("+") else theme.plain


def samples(theme: Theme) -> bytes:
    """A PNG of what denoisers make of the same noises: a row per network, a column per noise."""
    blocks = report.load(LEADERBOARDS / "diffusion-quick", "diffusion-quick").blocks
    records = {record.id: record for block in blocks for record in block.records()}
    left, cell, gap, edge, top = 172, 54, 5, 12, 12
    width = left + NOISES * (cell + gap) - gap + edge
    height = top + len(SHOWN) * (cell + gap) - gap + top
    figure = Figure(figsize=(width * PX / 72, height * PX / 72), dpi=DPI)
    FigureCanvasAgg(figure)
    for row, (cell_id, network) in enumerate(SHOWN):
        record, teacher = records[cell_id], network == "teacher"
        score = record.teacher.score if teacher and record.teacher else record.score("student")
        about = "frozen" if teacher else record.cell.regime
        middle = 1 - (top + row * (cell + gap) + cell / 2) / height
        figure.text(edge / width, middle + 2 / height, network, size=11, weight="bold", va="bottom")
        figure.text(
            edge / width, middle - 3 / height, f"{about}, Fréchet {score:.2f}", size=9, color=theme.muted, va="top"
        )
        for column, image in enumerate(_images(cell_id, teacher)[:NOISES]):
            x, y = left + column * (cell + gap), top + row * (cell + gap)
            axes = figure.add_axes((x / width, 1 - (y + cell) / height, cell / width, cell / height))
            axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_axis_off()
    return png(figure)


def _images(cell_id: str, teacher: bool) -> NDArray[np.float32]:
    """The 8×8 images of one grid of a cell's sample picture, [N, 8, 8] in [0, 1], in the order of their noises."""
    picture = imread(LEADERBOARDS / "diffusion-quick" / "samples" / f"{cell_id}.png")[..., 0]
    enlarged, pitch, across = 6, 50, 8  # as adm samples draws them: six times as large, two pixels between
    left, top = (434 if teacher else 12), 62
    square = picture[top : top + pitch * across - 2, left : left + pitch * across - 2]
    cells = [square[y : y + 48, x : x + 48] for y in range(0, 400, pitch) for x in range(0, 400, pitch)]
    small = np.stack([one[::enlarged, ::enlarged] for one in cells])
    if not np.array_equal(small.repeat(enlarged, 1).repeat(enlarged, 2), np.stack(cells)):
        raise ValueError(f"{cell_id}.png: no grid of 8×8 images of 8×8 pixels where adm samples used to draw it")
    return small


def controls(theme: Theme, suite: str) -> bytes:
    """A PNG of the first table of controls of a suite: differences of students, beside them those of teachers."""
    table = CONTROLS.tables(report.load(LEADERBOARDS / suite, suite).blocks)[0]
    place = {column.key: number for number, column in enumerate(table.columns)}
    panels = [(place[key], name) for key, name in _NETWORKS if key in place]
    shown = [[_numbers(row, column) for row in table.rows] for column, _ in panels]
    reach = 1.05 * max(abs(end) for each in shown for row in each for end in row)
    methods = [table.text(each, place["label"]) for each in table.rows]
    others = [f"− {table.text(each, place['control'])}" for each in table.rows]
    second = 32 + _width(methods, "bold")
    names = second + 32 + _width(others)
    side, between, row, top, foot = 230, 84, 22, 44, 56
    width, tall = names + len(panels) * (side + between), row * len(table.rows)
    height = top + tall + foot
    figure = Figure(figsize=(width * PX / 72, height * PX / 72), dpi=DPI)
    FigureCanvasAgg(figure)
    for number, other in enumerate(others):
        y = 1 - (top + row * (number + 0.5)) / height
        if number == 0 or methods[number] != methods[number - 1]:
            figure.text(16 / width, y, methods[number], va="center", weight="bold")
        figure.text(second / width, y, other, va="center")
    for number, ((_, name), differences) in enumerate(zip(panels, shown, strict=True)):
        left = names + number * (side + between)
        title = f"{name}, {table.columns[place['difference']].title}"
        figure.text(left / width, 1 - 12 / height, title, weight="bold", va="top")
        axes = figure.add_axes((left / width, foot / height, side / width, tall / height))
        axes.axvline(0, color=theme.muted, linewidth=0.9)
        axes.set_xlim(-reach, reach)
        axes.set_ylim(len(table.rows) - 0.5, -0.5)
        axes.set_yticks([])
        for y, (mean, low, high) in enumerate(differences):
            color = theme.plain if low <= 0 <= high else theme.adm
            axes.hlines(y, low, high, color=color, alpha=0.35, linewidth=5)
            axes.plot(mean, y, marker="D", markersize=5, color=color, markeredgecolor=theme.paper, markeredgewidth=0.8)
            axes.annotate(signed(mean, 2), (1, y), (6, 0), xycoords=("axes fraction", "data"),
                          textcoords="offset points", va="center", color=color)  # fmt: skip
    about = "Diamond: mean difference, row minus control, by seed. Bar: its 95 % interval. Orange: it excludes zero."
    figure.text(16 / width, 12 / height, about, size=8, color=theme.muted, va="bottom")
    return png(figure)


def _width(texts: Sequence[str], weight: str = "normal") -> int:
    """Width of the widest of some texts as a picture has them."""
    font = FontProperties(weight=weight)
    size = font.get_size_in_points()
    return math.ceil(max(TextPath((0, 0), text, size, prop=font).get_extents().x1 for text in texts) / PX)


def _numbers(row: Row, column: int) -> list[float]:
    """A difference and the ends of its interval."""
    return [float(value) for value in row.entries[column].values if value is not None]


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for name, content in pictures():
        (PICTURES / name).write_bytes(content)
        print(f"docs/pictures/{name}: {len(content) / 1000:.0f} kB")
    MADE_WITH.write_text(f"{mpl.__version__}\n")
