"""What the embedded sets are painted with: crops of photographs, enlarged digits, hues, and paint over a picture.

The same bytes come out everywhere: geometry uses only the operations that IEEE 754 defines exactly, and painting is
integer arithmetic. A change of what a function here gives needs a new version of every set that calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from tasks.datasets.images import Indices

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]

NO_INK, FULL_INK = 0.25, 0.75
"""Enlarged ink below the first is no paint, above the second full paint: strokes get edges."""


def crops(photographs: Pixels, side: int, places: Sequence[tuple[int, int]], bands: int, draws: Floats) -> Pixels:
    """Random square crops that each lie within one vertical band of a photograph: uint8 [N, side, side, 3].

    Args:
        photographs: [P, H, W, 3].
        side: of a crop, at most the width of a band.
        places: the (photograph, band) pairs to crop from, all equally likely.
        bands: how many bands of equal width a photograph has.
        draws: [3, N] in [0, 1) for the place, the row, and the column within the band.
    """
    _, height, width, _ = photographs.shape
    band_width = width // bands
    photograph, band = np.asarray(places)[np.floor(draws[0] * len(places)).astype(np.int64)].T
    top = np.floor(draws[1] * (height - side + 1)).astype(np.int64)
    left = band * band_width + np.floor(draws[2] * (band_width - side + 1)).astype(np.int64)
    span = np.arange(side)
    rows, columns = (top[:, None] + span)[:, :, None], (left[:, None] + span)[:, None, :]
    return cast(Pixels, photographs[photograph[:, None, None], rows, columns])


def painted(background: Pixels, colour: Indices, opacity: Indices) -> Pixels:
    """Paint over a background in integers, rounded: uint8 [..., 3].

    Args:
        background: [..., 3].
        colour: in 0..255, of a shape that broadcasts against the background's.
        opacity: in 0..255, likewise.
    """
    mixed = background.astype(np.int64) * (255 - opacity) + colour * opacity
    return ((mixed + 127) // 255).astype(np.uint8)


def hued(sixth: Floats, saturation: Floats, value: Floats) -> Floats:
    """Colours by hue, saturation and value: float64 [N, 3] in 0..1.

    Args:
        sixth: [N], the hue in sixths of the colour circle: 0 red, 2 green, 4 blue, 6 red again.
        saturation: [N] in 0..1.
        value: [N] in 0..1, the brightest channel.
    """
    place = np.array([5, 3, 1]) + sixth[:, None]
    place = place - 6 * np.floor(place / 6)
    grey = np.clip(np.minimum(place, 4 - place), 0, 1) * saturation[:, None]
    return cast(Floats, value[:, None] * (1 - grey))


def enlarged(glyphs: Floats, side: int, scale: Floats, tangent: Floats, place: Floats) -> Floats:
    """Ink of each digit on the image grid: float64 [N, side, side] in 0..1, bilinear, 0 outside the digit.

    Args:
        glyphs: [N, 8, 8] in 0..1.
        side: of the image.
        scale: [N], the digit's side as a share of the image's.
        tangent: [N], of half the angle by which it is tilted: so drawn, an angle needs no sine or cosine.
        place: [2, N] in 0..1, where its centre lies between the extremes at which the digit is whole.
    """
    norm = 1 + tangent * tangent
    cosine, sine = (1 - tangent * tangent) / norm, 2 * tangent / norm
    slack = side * (1 - scale)
    step = glyphs.shape[1] / (side * scale)
    grid = np.arange(side) + 0.5 - side / 2
    y = grid[None, :, None] - (slack * (place[0] - 0.5))[:, None, None]
    x = grid[None, None, :] - (slack * (place[1] - 0.5))[:, None, None]
    c, s, k = cosine[:, None, None], sine[:, None, None], step[:, None, None]
    middle = (glyphs.shape[1] - 1) / 2
    return _bilinear(glyphs, (c * y + s * x) * k + middle, (c * x - s * y) * k + middle)


def _bilinear(glyphs: Floats, row: Floats, column: Floats) -> Floats:
    """``glyphs`` [N, 8, 8] read at ``row`` and ``column`` [N, side, side], counted in pixels; 0 outside."""
    size = glyphs.shape[1]
    padded = np.zeros((len(glyphs), size + 2, size + 2))
    padded[:, 1:-1, 1:-1] = glyphs
    row, column = np.clip(row + 1, 0, size + 1), np.clip(column + 1, 0, size + 1)
    top = np.minimum(np.floor(row), size).astype(np.int64)
    left = np.minimum(np.floor(column), size).astype(np.int64)
    down, right = row - top, column - left
    corner = (np.arange(len(glyphs))[:, None, None] * (size + 2) + top) * (size + 2) + left
    flat = padded.reshape(-1)
    upper = flat[corner] * (1 - right) + flat[corner + 1] * right
    lower = flat[corner + size + 2] * (1 - right) + flat[corner + size + 3] * right
    return cast(Floats, upper * (1 - down) + lower * down)


def opacity(ink: Floats, strength: Floats) -> Indices:
    """How opaque the paint of enlarged digits is, in 255ths: int64 [N, side, side].

    Args:
        ink: [N, side, side] in 0..1.
        strength: [N] in 0..1, the opacity of full ink.
    """
    ink = np.clip((ink - NO_INK) / (FULL_INK - NO_INK), 0, 1)
    return cast(Indices, np.floor(ink * strength[:, None, None] * 255 + 0.5).astype(np.int64))


def between(bounds: tuple[float, float], draw: Floats) -> Floats:
    """``draw`` in 0..1 as a number between ``bounds``."""
    return bounds[0] + (bounds[1] - bounds[0]) * draw
