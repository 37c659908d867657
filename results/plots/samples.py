"""Pictures of the images that generative networks make of the same noises, side by side."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import IdentityTransform
from numpy.typing import NDArray

_SIDE = 48
"""Pixels that a side of an image is enlarged to, as nearly as a whole factor allows; larger images stay as they are."""
_GAP, _BETWEEN, _EDGE = 2, 24, 12
"""Pixels between two images, between two grids, and around all."""
_TITLE, _LABEL = 26, 24
"""Pixels of height for the title, and for the label above a grid."""
_DPI = 100
_STYLE: dict[Any, Any] = {"font.family": "DejaVu Sans", "font.size": 9, "text.parse_math": False}


@dataclass(frozen=True)
class Grid:
    """What one network makes.

    Attributes:
        label: stands above it.
        images: uint8 [N, H, W, C] with C of 1 or 3; every grid of a picture has the same noises in the same order.
    """

    label: str
    images: NDArray[np.uint8]


def draw(grids: Sequence[Grid], title: str) -> bytes:
    """A PNG with the grids side by side; the same bytes for the same data.

    Images keep their pixels: small ones are enlarged by a whole factor without smoothing.

    Args:
        grids: at least one; the images of all are of one shape.
        title: above them.
    """
    squares = [_arranged(grid.images) for grid in grids]
    tall, wide = squares[0].shape[:2]
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        figure = Figure(dpi=_DPI, facecolor="white")
        FigureCanvasAgg(figure)
        heading, labels = _text(figure, title, weight="bold"), [_text(figure, grid.label) for grid in grids]
        step = max(wide, *(_width(label) for label in labels)) + _BETWEEN
        width = 2 * _EDGE + max(step * len(grids) - _BETWEEN, _width(heading))
        height = 2 * _EDGE + _TITLE + _LABEL + tall
        figure.set_size_inches(width / _DPI, height / _DPI)
        heading.set_position((_EDGE, height - _EDGE))
        for number, (label, square) in enumerate(zip(labels, squares, strict=True)):
            label.set_position((_EDGE + number * step, height - _EDGE - _TITLE))
            figure.figimage(square, _EDGE + number * step, _EDGE)
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _text(figure: Figure, words: str, **style: Any) -> Text:
    """A text whose place is told in pixels."""
    return figure.text(0, 0, words, transform=IdentityTransform(), ha="left", va="top", **style)


def _width(text: Text) -> int:
    return math.ceil(text.get_window_extent().width)


def _arranged(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The images as one, [height, width, 3]: in rows, as many to a row as there are rows or a few more."""
    count, side = len(images), max(images.shape[1:3])
    factor = max(1, round(_SIDE / side))
    enlarged = np.broadcast_to(images, (*images.shape[:3], 3)).repeat(factor, 1).repeat(factor, 2)
    columns = math.ceil(math.sqrt(count))
    tall, wide = enlarged.shape[1] + _GAP, enlarged.shape[2] + _GAP
    square = np.full((math.ceil(count / columns) * tall - _GAP, columns * wide - _GAP, 3), 255, np.uint8)
    for index, image in enumerate(enlarged):
        y, x = index // columns * tall, index % columns * wide
        square[y : y + image.shape[0], x : x + image.shape[1]] = image
    return square
