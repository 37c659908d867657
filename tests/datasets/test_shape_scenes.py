"""shape-scenes: the same bytes everywhere, splits that share nothing, masks that are exact, hues that overlap
a little with the next alone."""

import colorsys
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks.datasets import shape_scenes as made
from tasks.datasets.images import uniform

DIGESTS = {
    "train": "48dd5a2745d2e68177b5e39ed13cf0ad615ff21b7aa0bf5cf1ac08ca819c5422",
    "validation": "1cc08ac2b275e03c30aec9052030bf3aec9af2041407ebda05e03485864f09fb",
    "test": "cccd4617f5172b22621ae50008802b587da70cc15c60e8557ebbd762a2dec586",
}
SPLITS = tuple(DIGESTS)


@pytest.fixture(scope="module")
def splits():
    return {split: made.shape_scenes(split) for split in SPLITS}


def drawn(count, **fixed):
    """Draws of one shape for each of ``count`` images, in the middle and of full size where not said otherwise."""
    return {name: np.full(count, 0.5) for name in made.DRAWS} | {
        name: np.broadcast_to(np.asarray(value, dtype=np.float64), count) for name, value in fixed.items()
    }


def painted(draws):
    """The shapes alone, on black."""
    count = len(draws["class"])
    images = np.zeros((count, made.SIDE, made.SIDE, 3), dtype=np.uint8)
    return made._painted(images, images[..., 0].copy(), draws)


def of_class(name):
    return (made.CLASSES.index(name) - 0.5) / 8


@pytest.mark.parametrize("split", SPLITS)
def test_version_2_never_changes(splits, split):
    assert made.VERSION == 2
    assert splits[split].digest() == DIGESTS[split]


@pytest.mark.parametrize("split", SPLITS)
def test_every_class_is_there_in_about_equal_parts(splits, split):
    scenes = splits[split]
    count = made.COUNTS[split]
    assert scenes.images.shape == (count, 64, 64, 3) and scenes.labels.shape == (count, 64, 64)
    assert scenes.name(17) == f"{split} 17" and len(scenes.classes) == len(set(scenes.palette)) == 9
    share = np.bincount(scenes.labels.ravel(), minlength=256) / scenes.labels.size
    assert 0.7 < share[0] < 0.8 and share[9:].sum() == 0
    assert share[1:9].min() > 0.02 and share[1:9].max() < 0.04
    shown = np.array([np.unique(labels).size - 1 for labels in scenes.labels])
    assert shown.min() >= 1 and shown.max() == 5


def test_masks_are_exactly_where_paint_went(splits, monkeypatch):
    """On black, no painted pixel is black; beneath, the bare crop shows and nothing else."""
    dark = np.zeros((2, 427, 640, 3), dtype=np.uint8)
    photographs = made.photographs()
    monkeypatch.setattr(made, "photographs", lambda: dark)
    for split in SPLITS:
        scenes = splits[split]
        on_black = made.shape_scenes(split)
        assert np.array_equal(on_black.labels, scenes.labels)
        assert np.array_equal(on_black.images.any(axis=3), scenes.labels > 0)
        number = list(made.COUNTS).index(split)
        places = uniform((made.VERSION, made.SIDE, number, 0), 4 * len(scenes)).reshape(4, -1)
        background = made.crops(photographs, made.SIDE, made.places(split), made.BAND_COUNT, places[1:])
        bare = scenes.labels == 0
        assert np.array_equal(scenes.images[bare], background[bare])


def test_no_photograph_pixel_serves_two_splits():
    place = np.zeros((2, 70, 640, 3), dtype=np.uint8)
    place[..., 0] = np.arange(640) // 80
    place[1, ..., 0] += 8
    used = {}
    for split in SPLITS:
        crops = made.crops(
            place, made.SIDE, made.places(split), made.BAND_COUNT, uniform((1,), 3 * 3000).reshape(3, -1)
        )
        used[split] = set(np.unique(crops[..., 0]).tolist())
        assert used[split] == {8 * k + band for k, bands in enumerate(made.BANDS[split]) for band in bands}
    assert sum(len(bands) for bands in used.values()) == len(set.union(*used.values())) == 16


def test_crops_reach_both_photographs_and_every_corner_of_a_band():
    height = 427
    photographs = np.zeros((2, height, 640, 3), dtype=np.uint8)
    photographs[1, ..., 0] = 1
    photographs[..., 1] = np.arange(height)[:, None] // 2
    photographs[..., 2] = np.arange(640) % 80
    crops = made.crops(
        photographs, made.SIDE, made.places("test"), made.BAND_COUNT, uniform((2,), 3 * 3000).reshape(3, -1)
    )
    assert set(np.unique(crops[..., 0])) == {0, 1}
    assert crops[..., 1].min() == 0 and crops[..., 1].max() == (height - 1) // 2
    assert (crops[:, 0, 0, 2].min(), crops[:, 0, -1, 2].max()) == (0, 79)


def test_directions_are_unit_vectors_within_a_degree():
    turn = np.linspace(-6, 6, 1201)
    c, s = made._direction(turn)
    np.testing.assert_allclose(c * c + s * s, 1, atol=1e-12)
    off = np.angle((c + 1j * s) / np.exp(0.5j * np.pi * turn), deg=True)
    assert np.abs(off).max() < 1.0
    np.testing.assert_allclose(off[::50], 0, atol=1e-12)


def test_an_ellipse_is_the_set_of_pixel_centres_it_holds():
    turns = np.array([0.0, 0.125, 0.25, 0.375])  # of a full turn: multiples of 45 degrees are exact
    draws = drawn(
        4, **{"class": of_class("red")}, outline=0.0, radius=1.0, flatness=0.0, turn=turns, row=0.25, column=0.75
    )
    _, labels = painted(draws)
    rows, columns = np.mgrid[:64, :64] + 0.5 - np.array([8 + 48 * 0.25, 8 + 48 * 0.75])[:, None, None]
    for found, turn in zip(labels, turns, strict=True):
        angle = 2 * np.pi * turn
        u = (np.cos(angle) * columns + np.sin(angle) * rows) / 14
        v = (np.cos(angle) * rows - np.sin(angle) * columns) / (14 * 0.6)
        assert np.array_equal(found > 0, u * u + v * v <= 1)


@pytest.mark.parametrize(("corners", "draw"), [(3, 0.1), (4, 0.5), (5, 0.9)])
def test_a_polygon_is_convex_with_its_corners_on_its_ellipse(corners, draw):
    """Its area is that of its corners, by the shoelace formula, and its pixels are those matplotlib finds inside."""
    from matplotlib.path import Path as Outline

    strays = {f"corner {k}": [0.0, 0.5, 1.0, 0.2 * k] for k in range(5)}
    draws = drawn(
        4, **{"class": of_class("azure")}, outline=0.5, radius=1.0, flatness=1.0, turn=0.0, corners=draw, **strays
    )
    _, labels = painted(draws)
    grid = np.stack(np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5), axis=-1).reshape(-1, 2)
    for image, found in enumerate(labels):
        stray = np.array([0.2 * (2 * strays[f"corner {k}"][image] - 1) for k in range(corners)])
        c, s = made._direction(4 * (np.arange(corners) + stray) / corners)
        outline = 32 + 14 * made.POLYGON_SCALE * np.stack([c, s], axis=1)
        x, y = outline.T
        area = abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2
        assert abs(int((found > 0).sum()) - area) < 20
        inside = Outline(outline).contains_points(grid).reshape(64, 64)
        assert (inside != (found > 0)).sum() <= 4  # matplotlib leaves out what lies on an edge


@pytest.mark.parametrize("hue", made.HUES)
def test_a_shape_has_one_colour_and_strays_from_its_hue_triangularly(hue):
    count = 400
    random = dict(zip(made.DRAWS, uniform((4,), len(made.DRAWS) * count).reshape(-1, count), strict=True))
    draws = drawn(count, **(random | {"row": 0.5, "column": 0.5, "opacity": 1.0, "class": of_class(hue)}))
    images, labels = painted(draws)
    assert set(np.unique(labels)) == {0, made.CLASSES.index(hue)}
    colours = [np.unique(image[found > 0], axis=0) for image, found in zip(images, labels, strict=True)]
    assert {len(found) for found in colours} == {1}
    angle = np.array([colorsys.rgb_to_hsv(*found[0] / 255)[0] for found in colours]) * 8
    away = (angle - made.HUES.index(hue) + 4) % 8 - 4
    assert 0.5 < np.abs(away).max() <= made.STRAY + 0.05
    np.testing.assert_allclose(away.std(), made.STRAY / np.sqrt(6), rtol=0.1)


def test_later_shapes_cover_earlier_ones():
    images, labels = painted(drawn(1, **{"class": of_class("red")}, radius=1.0))
    under = labels[0] > 0
    later = drawn(1, **{"class": of_class("lime")}, radius=0.0, opacity=1.0)
    alone = painted(later)[1][0] > 0
    images, labels = made._painted(images, labels, later)
    assert (labels[0][alone] == made.CLASSES.index("lime")).all()
    assert (labels[0][under & ~alone] == made.CLASSES.index("red")).all()
    assert np.array_equal(images[0][alone], painted(later)[0][0][alone])


def test_making_them_loads_no_torch():
    code = (
        "import sys; from tasks import datasets\n"
        "datasets.load('shape-scenes', 'validation', [])\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
