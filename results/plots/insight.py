"""Pictures of what two networks show on test images: agreement, ADM's weights and activations beside the object."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

COLORS = "cividis"
"""Reads the same with and without red-green blindness, and in print without colours."""
_TITLES = (
    "image",
    "object",
    "similarity S",
    "consensus\nweights w",
    "divergence\nweights v",
    "teacher's\nactivation",
    "student's\nactivation",
)
_SIDE, _GAP = 1.3, 0.08
"""Inches: side of a picture, and the space between two."""
_BELOW, _HEAD, _FOOT, _EDGE = 0.2, 0.68, 0.5, 0.12
"""Inches: room for a picture's range, for titles, for the legend, and at the sides."""
_STYLE: dict[Any, Any] = {"font.family": "DejaVu Sans", "font.size": 8, "text.parse_math": False}
_OUTLINE = "white"


@dataclass(frozen=True)
class Example:
    """One image and what a pair of networks shows on it.

    Attributes:
        image: uint8 [3, H, W].
        object: bool [H, W].
        similarity: S, [h, w]; maps are of any size.
        consensus: ADM's weights for the student.
        divergence: ADM's weights for the teacher.
        teacher: the teacher's activation.
        student: the student's.
    """

    image: NDArray[np.uint8]
    object: NDArray[np.bool_]
    similarity: Floats
    consensus: Floats
    divergence: Floats
    teacher: Floats
    student: Floats


def draw(examples: Sequence[Example], title: str) -> bytes:
    """A PNG with one row per example and one legend for all maps; the same bytes for the same data.

    Each map keeps its own positions, uninterpolated, is coloured from its own lowest to its own highest value, which
    stand below it, and has the object's outline drawn over it.

    Args:
        examples: at least one.
        title: above the rows.
    """
    tall = [_SIDE * min(e.image.shape[1] / e.image.shape[2], 2.0) for e in examples]
    width = 2 * _EDGE + len(_TITLES) * _SIDE + (len(_TITLES) - 1) * _GAP
    height = _HEAD + sum(tall) + _BELOW * len(examples) + _FOOT
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=(width, height), dpi=200, facecolor="white")
        FigureCanvasAgg(figure)
        figure.text(_EDGE / width, 1 - 0.1 / height, title, ha="left", va="top", size=9, weight="bold")
        top = height - _HEAD
        for number, (example, side) in enumerate(zip(examples, tall, strict=True)):
            for column in range(len(_TITLES)):
                left = _EDGE + column * (_SIDE + _GAP)
                axes = figure.add_axes((left / width, (top - side) / height, _SIDE / width, side / height))
                _panel(axes, example, column)
                if number == 0:
                    axes.set_title(_TITLES[column], size=8, pad=4)
            top -= side + _BELOW
        _legend(figure, width, height)
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _panel(axes: Axes, example: Example, column: int) -> None:
    """One picture: the image, the object, or a map with the object's outline and its range below."""
    height, width = example.object.shape
    frame = (0.0, float(width), float(height), 0.0)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if column == 0:
        axes.imshow(example.image.transpose(1, 2, 0), extent=frame, interpolation="nearest", aspect="auto")
        return
    if column == 1:
        axes.imshow(example.object, extent=frame, interpolation="nearest", aspect="auto", cmap="gray", vmin=0, vmax=1)
        axes.set_xlabel(f"{100 * example.object.mean():.0f} % of the image", size=6.5, labelpad=2)
        return
    maps = (example.similarity, example.consensus, example.divergence, example.teacher, example.student)
    values = maps[column - 2]
    axes.imshow(values, extent=frame, interpolation="nearest", aspect="auto", cmap=COLORS)
    ends = f"{values.min():.2f} to {values.max():.2f}".replace("-", "−")
    axes.set_xlabel(ends, size=6.5, labelpad=2)
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    if 0 < example.object.sum() < example.object.size:
        axes.contour(x, y, example.object, levels=[0.5], colors="black", linewidths=1.6)
        axes.contour(x, y, example.object, levels=[0.5], colors=_OUTLINE, linewidths=0.8)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def _legend(figure: Figure, width: float, height: float) -> None:
    """The colours of all maps, and what the outline is."""
    left = _EDGE + 2 * (_SIDE + _GAP)
    long = 2 * _SIDE + _GAP
    axes = figure.add_axes((left / width, 0.25 / height, long / width, 0.1 / height))
    bar = figure.colorbar(ScalarMappable(cmap=COLORS), cax=axes, orientation="horizontal", ticks=[0, 1])
    bar.ax.set_xticklabels(["map's lowest value", "map's highest value"])
    lowest, highest = bar.ax.get_xticklabels()
    lowest.set_horizontalalignment("left")
    highest.set_horizontalalignment("right")
    bar.ax.tick_params(length=0, pad=2, labelsize=7)
    figure.text((left + long + 0.2) / width, 0.3 / height, "outline: the object", ha="left", va="center", size=7)
