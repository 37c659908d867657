"""What embedded sets are painted with, against scipy, colorsys and geometry."""

import colorsys

import numpy as np

from tasks.datasets import painting
from tasks.datasets.digit_scenes import LARGEST_TILT
from tasks.datasets.images import uniform
from tasks.datasets.sample_files import digits


def test_an_upright_full_size_digit_is_scipy_s_bilinear_enlargement():
    from scipy.ndimage import map_coordinates

    ink, _ = digits()
    grid = (np.arange(28) + 0.5) * 8 / 28 - 0.5
    y, x = np.meshgrid(grid, grid, indexing="ij")
    painted = painting.enlarged(ink[:5], 28, np.ones(5), np.zeros(5), np.full((2, 5), 0.5))
    for drawn, digit in zip(painted, ink[:5], strict=True):
        padded = np.pad(digit, 2)
        np.testing.assert_allclose(drawn, map_coordinates(padded, [y + 2, x + 2], order=1), atol=1e-12)


def test_the_tilt_reaches_fifteen_degrees_either_way_and_no_further():
    dot = np.zeros((2, 8, 8))
    dot[:, 4, 7] = dot[:, 3, 7] = 1  # centred vertically, at the right edge
    tangents = LARGEST_TILT * np.array([-1, 1])
    painted = painting.enlarged(dot, 28, np.full(2, 0.98), tangents, np.full((2, 2), 0.5))
    rows, columns = np.mgrid[:28, :28] - 13.5
    weight = painted.sum(axis=(1, 2))
    y, x = (painted * rows).sum(axis=(1, 2)) / weight, (painted * columns).sum(axis=(1, 2)) / weight
    np.testing.assert_allclose(np.degrees(np.arctan2(y, x)), [15, -15], atol=1.0)


def test_hues_are_those_of_the_standard_library():
    hue, saturation, value = uniform((3,), 300).reshape(3, -1)
    expected = [colorsys.hsv_to_rgb(*colour) for colour in zip(hue, saturation, value, strict=True)]
    np.testing.assert_allclose(painting.hued(6 * hue, saturation, value), expected, atol=1e-12)
    np.testing.assert_allclose(painting.hued(6 * hue - 6, saturation, value), expected, atol=1e-12)


def test_paint_covers_as_much_as_its_opacity_says_and_rounds_to_the_nearest():
    background, colour, opacity = np.mgrid[0:256:51, 0:256:51, 0:256:5].reshape(3, -1)
    exact = background + (colour - background) * opacity / 255
    found = painting.painted(background.astype(np.uint8), colour, opacity)
    assert np.abs(found - exact).max() <= 0.5
    assert np.array_equal(found[opacity == 255], colour[opacity == 255])
