"""``shape-scenes``: shapes in one of eight hues on photographs with exact masks, made on the spot; no download.

Each 64x64 RGB image shows three to five shapes on a crop of one of scikit-learn's two sample photographs; later
shapes cover earlier ones. A shape is an ellipse or a polygon of three to five corners, and its class is its hue. Place,
size, outline, saturation, brightness and opacity differ from shape to shape. What no shape covers is the class
background, which is scored like any other.

A drawn hue strays from its class's by up to 0.6 of the way to the next, most often by little, so that neighbouring
hues overlap. Hues are learned bit by bit, so that seeds do not differ by whether a network came upon one.

Splits share no photograph pixels: each photograph is cut into vertical bands that belong to one split each.

The same bytes come out everywhere: draws come from PCG64's raw stream, geometry uses only the operations
IEEE 754 defines exactly, and painting is integer arithmetic. A change in what is drawn needs a new VERSION.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tasks.datasets.images import Indices, uniform
from tasks.datasets.painting import Floats, between, crops, hued, painted
from tasks.datasets.sample_files import photographs
from tasks.datasets.scenes import Colour, Pixels, Scenes

Split = Literal["train", "validation", "test"]
Flags = NDArray[np.bool_]
Draws = Mapping[str, Floats]

VERSION = 2
SIDE = 64
HUES = ("red", "amber", "lime", "emerald", "cyan", "azure", "violet", "rose")
"""In the order of the colour circle, 45 degrees apart."""
CLASSES = ("background", *HUES)
PALETTE: tuple[Colour, ...] = (
    (0, 0, 0),
    *((255, 0, 0), (255, 191, 0), (128, 255, 0), (0, 255, 64)),
    *((0, 255, 255), (0, 64, 255), (128, 0, 255), (255, 0, 191)),
)
COUNTS: dict[Split, int] = {"train": 1000, "validation": 200, "test": 400}
FEWEST, MOST = 3, 5
"""Shapes in an image."""
BANDS: dict[Split, tuple[tuple[int, ...], ...]] = {
    "train": ((2, 3, 5, 6, 7), (0, 2, 4, 6, 7)),
    "validation": ((0,), (5,)),
    "test": ((1, 4), (1, 3)),
}
"""Which of each photograph's eight vertical bands a split may crop from; chosen so that splits are about as bright."""
BAND_COUNT = 8
MARGIN = 8.0
"""How near a shape's centre may come to the image's edge, in pixels."""
RADIUS, FLATTEST = (7.0, 14.0), 0.6
"""The longer half-axis of a shape in pixels, and the least ratio of the shorter one to it."""
POLYGON_SCALE = 1.25
"""A polygon lies within its ellipse; this much larger, it covers about as much of the image."""
CORNERS, CORNER_JITTER = (3, 5), 0.2
"""Corners of a polygon, and how far each may stray, in parts of the angle between two."""
STRAY = 0.6
"""How far a drawn hue may lie from its class's, in steps from one hue to the next; triangularly distributed."""
SATURATION, VALUE = (0.85, 1.0), (0.75, 1.0)
SMALLEST_OPACITY = 0.85
HALF_ANGLE = 0.41421356237309503
"""tan(45 degrees / 2), so that directions need no sine or cosine."""
DRAWS = (
    *("class", "outline", "row", "column", "radius", "flatness", "turn", "corners"),
    *(f"corner {corner}" for corner in range(CORNERS[1])),
    *("stray", "stray too", "saturation", "value", "opacity"),
)
"""What is drawn at random for each shape, in the order of the stream."""


def shape_scenes(split: Split) -> Scenes:
    """One split, 64x64 with nine classes; made anew in about a second, the same bytes every time.

    Args:
        split: ``train`` (1,000 images), ``validation`` (200) or ``test`` (400).
    """
    count, number = COUNTS[split], list(COUNTS).index(split)
    draws = uniform((VERSION, SIDE, number, 0), 4 * count).reshape(4, count)
    stream = uniform((VERSION, SIDE, number, 1), len(DRAWS) * MOST * count).reshape(len(DRAWS), MOST, count)
    images = crops(photographs(), SIDE, places(split), BAND_COUNT, draws[1:])
    labels = np.zeros(images.shape[:3], dtype=np.uint8)
    shapes = _whole((FEWEST, MOST), draws[0])
    for position in range(MOST):
        drawn = np.flatnonzero(position < shapes)
        shape = dict(zip(DRAWS, stream[:, position, drawn], strict=True))
        images[drawn], labels[drawn] = _painted(images[drawn], labels[drawn], shape)
    names = tuple(f"{split} {i}" for i in range(count))
    return Scenes(images, labels, CLASSES, PALETTE, names)


def places(split: Split) -> list[tuple[int, int]]:
    """The (photograph, band) pairs that a split may crop from."""
    return [(photograph, band) for photograph, bands in enumerate(BANDS[split]) for band in bands]


def _painted(images: Pixels, labels: Pixels, draws: Draws) -> tuple[Pixels, Pixels]:
    """Images and labels with one more shape on each.

    Args:
        images: uint8 [N, SIDE, SIDE, 3].
        labels: uint8 [N, SIDE, SIDE].
        draws: each of ``DRAWS`` [N] in 0..1.
    """
    hue = _whole((0, len(HUES) - 1), draws["class"])
    owner, row, column, y, x = _around(draws)
    inside = _inside(draws, owner, y, x)
    owner, row, column = owner[inside], row[inside], column[inside]
    colour, strength = _colours(hue, draws)[owner], between((SMALLEST_OPACITY, 1.0), draws["opacity"])
    opacity = np.floor(strength * 255 + 0.5).astype(np.int64)[owner, None]
    images[owner, row, column] = painted(images[owner, row, column], colour, opacity)
    labels[owner, row, column] = (1 + hue)[owner]
    return images, labels


def _around(draws: Draws) -> tuple[Indices, Indices, Indices, Floats, Floats]:
    """The pixels that a shape may cover: its number, row and column; how far below its centre and right of it."""
    grid = np.arange(SIDE) + 0.5
    y = grid - between((MARGIN, SIDE - MARGIN), draws["row"])[:, None]
    x = grid - between((MARGIN, SIDE - MARGIN), draws["column"])[:, None]
    reach = (between(RADIUS, draws["radius"]) * POLYGON_SCALE)[:, None, None]
    owner, row, column = np.nonzero((y * y)[:, :, None] + (x * x)[:, None, :] <= reach * reach)
    return owner, row, column, y[owner, row], x[owner, column]


def _inside(draws: Draws, owner: Indices, y: Floats, x: Floats) -> Flags:
    """Which pixels lie in their shape: bool [P].

    Args:
        draws: each of ``DRAWS`` [N] in 0..1.
        owner: [P], the number of each pixel's shape.
        y: [P], pixels below the shape's centre.
        x: [P], pixels to its right.
    """
    long = between(RADIUS, draws["radius"])
    short = long * between((FLATTEST, 1.0), draws["flatness"])
    c, s = _direction(4 * draws["turn"])
    u = (c[owner] * x + s[owner] * y) / long[owner]
    v = (c[owner] * y - s[owner] * x) / short[owner]
    polygon = _in_polygon(draws, owner, u, v)
    return np.where(draws["outline"][owner] >= 0.5, polygon, u * u + v * v <= 1)


def _in_polygon(draws: Draws, owner: Indices, u: Floats, v: Floats) -> Flags:
    """Which points (u, v) [P] lie in a polygon with corners on the circle of radius ``POLYGON_SCALE``: bool [P]."""
    corners = _whole(CORNERS, draws["corners"])
    numbers = np.arange(CORNERS[1])
    strays = np.stack([draws[f"corner {k}"] for k in numbers], axis=1)
    a, b = _direction(4 * (numbers + CORNER_JITTER * (2 * strays - 1)) / corners[:, None])
    a, b = POLYGON_SCALE * a, POLYGON_SCALE * b
    following = (numbers + 1) % corners[:, None]
    du, dv = np.take_along_axis(a, following, axis=1) - a, np.take_along_axis(b, following, axis=1) - b
    inside = np.ones(len(u), dtype=bool)
    for k in numbers:
        left = du[owner, k] * (v - b[owner, k]) - dv[owner, k] * (u - a[owner, k]) >= 0
        inside &= left | (k >= corners)[owner]
    return inside


def _colours(hue: Indices, draws: Draws) -> Indices:
    """The colour of each shape: int64 [N, 3] in 0..255; ``hue`` [N] is a position in ``HUES``."""
    sixth = 6 / len(HUES) * (hue + STRAY * (draws["stray"] + draws["stray too"] - 1))
    colour = hued(sixth, between(SATURATION, draws["saturation"]), between(VALUE, draws["value"]))
    return np.floor(colour * 255 + 0.5).astype(np.int64)


def _whole(bounds: tuple[int, int], draw: Floats) -> Indices:
    """``draw`` in [0, 1) as a whole number from the first bound to the last, both included."""
    return bounds[0] + np.floor(draw * (bounds[1] - bounds[0] + 1)).astype(np.int64)


def _direction(turn: Floats) -> tuple[Floats, Floats]:
    """Unit vectors (cosine, sine) at ``turn`` right angles: exact at multiples of one half, else within a degree."""
    quarter = np.floor(turn + 0.5)
    tangent = (turn - quarter) * (2 * HALF_ANGLE)
    norm = 1 + tangent * tangent
    c, s = (1 - tangent * tangent) / norm, 2 * tangent / norm
    quarter = quarter - 4 * np.floor(quarter / 4)
    odd, back = (quarter == 1) | (quarter == 3), quarter >= 2
    c, s = np.where(odd, -s, c), np.where(odd, c, s)
    return np.where(back, -c, c), np.where(back, -s, s)
