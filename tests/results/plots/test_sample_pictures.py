"""The picture of what networks make of the same noises: every pixel of every image is in it, enlarged and no more."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from results.plots.samples import Grid, draw


def pixels(picture: bytes) -> NDArray[np.uint8]:
    """A PNG as uint8 [H, W, 3]."""
    return np.round(imread(io.BytesIO(picture))[..., :3] * 255).astype(np.uint8)


@pytest.mark.parametrize(("count", "side", "channels", "factor"), [(64, 8, 1, 6), (5, 32, 3, 2), (2, 64, 3, 1)])
def test_images_are_enlarged_by_a_whole_factor_and_stand_in_rows(
    count: int, side: int, channels: int, factor: int
) -> None:
    images = np.random.default_rng(0).integers(0, 255, (2, count, side, side, channels), dtype=np.uint8)
    picture = pixels(draw([Grid("kd, seed 0: FID 9.00", images[0]), Grid("teacher: FID 5.00", images[1])], "title"))
    columns, large = int(np.ceil(np.sqrt(count))), side * factor
    first = np.kron(images[0, 0], np.ones((factor, factor, 1), np.uint8)) * np.ones(3, np.uint8)
    ((top, left),) = (
        (y, x)
        for y in range(min(100, picture.shape[0] - large + 1))
        for x in range(100)
        if (picture[y : y + large, x : x + large] == first).all()
    )
    step = next(
        x for x in range(left + large, picture.shape[1])
        if (picture[top : top + large : factor, x : x + large : factor] == images[1, 0]).all()
    ) - left  # fmt: skip
    for grid in range(2):
        for index in range(count):
            y = top + index // columns * (large + 2)
            x = left + grid * step + index % columns * (large + 2)
            shown = picture[y : y + large, x : x + large]
            assert (shown.reshape(side, factor, side, factor, 3) == images[grid, index][:, None, :, None]).all()


def test_words_are_drawn_in_full_however_long_and_a_dollar_is_no_formula() -> None:
    images = np.zeros((1, 8, 8, 1), np.uint8)
    short, long = (pixels(draw([Grid(label, images)], "t")) for label in ("a", "W" * 80 + "$x^2$"))
    assert long.shape[1] > short.shape[1] + 500 and (long[:, -12:] == 255).all() and (long[:, -40:] < 255).any()


def test_the_same_data_give_the_same_bytes() -> None:
    grids = [Grid("a", np.arange(192, dtype=np.uint8).reshape(3, 8, 8, 1))]
    assert draw(grids, "t") == draw(grids, "t")
