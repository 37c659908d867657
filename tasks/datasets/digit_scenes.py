"""``digit-scenes@1``: handwritten digits on photographs, made from what scikit-learn carries; no download.

Each 28x28 RGB image shows one of scikit-learn's 1,797 real digits, scaled to 0.8-1.0 of the image, rotated by
up to 15 degrees, in a random colour and at an opacity of 0.8-1.0, on a crop of one of scikit-learn's two
sample photographs. The class is the digit; the mask is exactly where the digit was painted.

Splits share neither digits nor photograph pixels: 50 and 20 digits a class are kept for test and validation,
and each photograph is cut into vertical bands that belong to one split each.

The same bytes come out everywhere: draws come from PCG64's raw stream, geometry uses only the operations
IEEE 754 defines exactly, and painting is integer arithmetic. A change in what is drawn needs a new VERSION.
"""

from __future__ import annotations

from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from tasks.datasets.images import ImageSet, Indices, uniform
from tasks.datasets.sample_files import digits, photographs

Split = Literal["train", "validation", "test"]
Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]

VERSION = 1
SIDE = 28
CLASSES = tuple("0123456789")
COUNTS: dict[Split, int] = {"train": 5000, "validation": 1000, "test": 2000}
HELD_OUT_DIGITS: dict[Split, int] = {"test": 50, "validation": 20}
"""Source digits of each class that a split keeps for itself; train has the rest."""
BANDS: dict[Split, tuple[int, ...]] = {
    "train": (0, 1, 3, 5, 7, 8, 9, 11, 13, 15),
    "validation": (4, 12),
    "test": (2, 6, 10, 14),
}
"""Which of a photograph's sixteen vertical bands a split may crop from."""
BAND_COUNT = 16
SMALLEST_SCALE, LARGEST_TILT, SMALLEST_OPACITY = 0.8, 0.13165249758739583, 0.8
"""The tilt is tan(15 degrees / 2): an angle drawn by its half-angle tangent needs no sine or cosine."""
NO_INK, FULL_INK = 0.25, 0.75
"""Enlarged ink below the first is no paint, above the second full paint: strokes get edges."""


def digit_scenes(split: Split) -> ImageSet:
    """One split, with masks; made anew in about a second, the same bytes every time.

    Args:
        split: ``train`` (5,000 images), ``validation`` (1,000) or ``test`` (2,000); classes in equal parts.
    """
    glyphs, labels = digits()
    source = sources(labels, split)
    draws = uniform((VERSION, list(COUNTS).index(split)), len(source) * 12).reshape(12, -1)
    opacity = _opacity(_paint(glyphs[source], draws[:4]), draws[4])
    background = _crops(photographs(), split, draws[5:8])
    colour = np.floor(draws[8:11].T * 256).astype(np.int64)
    images = _composite(background, colour, opacity)
    return ImageSet(images, labels[source], CLASSES, (opacity > 0).astype(np.uint8))


def sources(labels: Indices, split: Split) -> Indices:
    """Which source digit each image of a split shows: int64 [COUNTS[split]], classes taking turns.

    Args:
        labels: int64 [1797], the class of each source digit.
        split: the split; no digit serves two.
    """
    keys = uniform((VERSION, 99), len(labels))
    chosen = np.empty((COUNTS[split] // len(CLASSES), len(CLASSES)), dtype=np.int64)
    for digit in range(len(CLASSES)):
        members = np.flatnonzero(labels == digit)
        members = members[np.argsort(keys[members], kind="stable")]
        first = HELD_OUT_DIGITS["test"]
        second = first + HELD_OUT_DIGITS["validation"]
        own = {"test": members[:first], "validation": members[first:second], "train": members[second:]}[split]
        chosen[:, digit] = own[np.arange(len(chosen)) % len(own)]
    return chosen.reshape(-1)


def _paint(glyphs: Floats, draws: Floats) -> Floats:
    """Ink of each digit on the image grid: float64 [N, SIDE, SIDE] in 0..1, bilinear, 0 outside the digit.

    Args:
        glyphs: [N, 8, 8] in 0..1.
        draws: [4, N] in 0..1 for scale, tilt and the place of the digit's centre (vertical, horizontal).
    """
    scale = SMALLEST_SCALE + (1 - SMALLEST_SCALE) * draws[0]
    tangent = LARGEST_TILT * (2 * draws[1] - 1)
    norm = 1 + tangent * tangent
    cosine, sine = (1 - tangent * tangent) / norm, 2 * tangent / norm
    slack = SIDE * (1 - scale)
    step = glyphs.shape[1] / (SIDE * scale)
    grid = np.arange(SIDE) + 0.5 - SIDE / 2
    y = grid[None, :, None] - (slack * (draws[2] - 0.5))[:, None, None]
    x = grid[None, None, :] - (slack * (draws[3] - 0.5))[:, None, None]
    c, s, k = cosine[:, None, None], sine[:, None, None], step[:, None, None]
    middle = (glyphs.shape[1] - 1) / 2
    return _bilinear(glyphs, (c * y + s * x) * k + middle, (c * x - s * y) * k + middle)


def _bilinear(glyphs: Floats, row: Floats, column: Floats) -> Floats:
    """``glyphs`` [N, 8, 8] read at ``row`` and ``column`` [N, SIDE, SIDE], counted in pixels; 0 outside."""
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


def _opacity(ink: Floats, draw: Floats) -> Indices:
    """How opaque the paint is, in 255ths: int64 [N, SIDE, SIDE]; ``draw`` [N] in 0..1 differs per digit."""
    strength = SMALLEST_OPACITY + (1 - SMALLEST_OPACITY) * draw
    ink = np.clip((ink - NO_INK) / (FULL_INK - NO_INK), 0, 1)
    return cast(Indices, np.floor(ink * strength[:, None, None] * 255 + 0.5).astype(np.int64))


def _crops(photographs: Pixels, split: Split, draws: Floats) -> Pixels:
    """Random SIDE x SIDE crops that lie within the split's own bands: uint8 [N, SIDE, SIDE, 3].

    Args:
        photographs: [P, H, W, 3].
        split: whose bands.
        draws: [3, N] in 0..1 for the photograph and band, the row, and the column within the band.
    """
    count, height, width, _ = photographs.shape
    band_width = width // BAND_COUNT
    bands = np.asarray(BANDS[split])
    place = np.floor(draws[0] * count * len(bands)).astype(np.int64)
    top = np.floor(draws[1] * (height - SIDE + 1)).astype(np.int64)
    inside = np.floor(draws[2] * (band_width - SIDE + 1)).astype(np.int64)
    left = bands[place % len(bands)] * band_width + inside
    span = np.arange(SIDE)
    rows, columns = (top[:, None] + span)[:, :, None], (left[:, None] + span)[:, None, :]
    return cast(Pixels, photographs[(place // len(bands))[:, None, None], rows, columns])


def _composite(background: Pixels, colour: Indices, opacity: Indices) -> Pixels:
    """Paint over the background in integers, rounded: uint8 [N, 3, SIDE, SIDE].

    Args:
        background: [N, SIDE, SIDE, 3].
        colour: [N, 3] in 0..255.
        opacity: [N, SIDE, SIDE] in 0..255.
    """
    base = background.transpose(0, 3, 1, 2).astype(np.int64)
    painted = base * (255 - opacity[:, None]) + colour[:, :, None, None] * opacity[:, None]
    return ((painted + 127) // 255).astype(np.uint8)
