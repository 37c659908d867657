"""Draws ``docs/pictures/corruptions.png`` from embedded pictures: ``python docs/corruptions.py``.

A row for each corruption: a photograph at severities 0 (as it is), 1, 3 and 5, then a small picture likewise, enlarged.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tasks.datasets import load  # noqa: E402
from tasks.datasets.corruptions import corrupt  # noqa: E402
from tasks.datasets.sample_files import photographs  # noqa: E402
from tasks.datasets.severities import SEVERITIES, SMALL  # noqa: E402

SHEET = HERE / "pictures" / "corruptions.png"
SHOWN = (1, 3, 5)
SIDE, GAP, NAME = SMALL + 8, 2, 100
"""Pixels: of a picture, between two, and of the column with the names."""


def sheet() -> Image.Image:
    """The sheet with its names."""
    made = pictures()
    drawn = Image.new("RGB", (NAME + made.shape[1], made.shape[0]), "white")
    drawn.paste(Image.fromarray(made), (NAME, 0))
    for row, name in enumerate(SEVERITIES):
        ImageDraw.Draw(drawn).text((4, row * (SIDE + GAP) + SIDE // 2 - 6), name, fill="black")
    return drawn


def pictures() -> NDArray[np.uint8]:
    """The sheet without its names, uint8 [H, W, 3]."""
    photograph = photographs()[0][90 : 90 + SIDE, 230 : 230 + SIDE]
    small = load("digit-hues", "test", ()).images[5].transpose(1, 2, 0)
    rows = []
    for name in SEVERITIES:
        row = [photograph, *(corrupt(photograph, name, severity, (0,)) for severity in SHOWN)]
        row += [_enlarged(each) for each in (small, *(corrupt(small, name, severity, (0,)) for severity in SHOWN))]
        rows.append(
            np.concatenate([np.pad(each, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for each in row], 1)
        )
    return np.concatenate(rows)


def _framed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(picture, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)


def _enlarged(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    times = SIDE // picture.shape[0]
    return picture.repeat(times, 0).repeat(times, 1)


if __name__ == "__main__":
    sheet().quantize(255, dither=Image.Dither.NONE).save(SHEET, optimize=True)
