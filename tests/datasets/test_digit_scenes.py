"""digit-scenes@1: the same bytes everywhere, splits that share nothing, masks that are exact."""

import numpy as np
import pytest

from tasks.datasets import digit_scenes as made
from tasks.datasets import painting
from tasks.datasets.images import uniform

DIGESTS = {
    "train": "c1d8ae6b79a93816f64ed946ba83db02b9c805ad77b357d1fa6af0f703495646",
    "validation": "d3a6e5a86bd77feb3fab2bcbc855aff67bd9b8b27fa75bbd08767b86df291f53",
    "test": "145721d62552ab13dd57a7b015bd3287bb4546a99041882df4b827620f0fdc76",
}
SPLITS = tuple(DIGESTS)


@pytest.fixture(scope="module")
def splits():
    return {split: made.digit_scenes(split) for split in SPLITS}


@pytest.mark.parametrize("split", SPLITS)
def test_version_1_never_changes(splits, split):
    assert made.VERSION == 1
    assert splits[split].digest() == DIGESTS[split]


@pytest.mark.parametrize("split", SPLITS)
def test_classes_are_balanced_in_every_prefix(splits, split):
    scenes = splits[split]
    assert scenes.images.shape == (made.COUNTS[split], 3, 28, 28)
    assert set(np.bincount(scenes.labels)) == {made.COUNTS[split] // 10}
    assert scenes.labels[:20].tolist() == [*range(10), *range(10)]


def test_no_digit_serves_two_splits_and_all_serve_one():
    _, labels = made.digits()
    used = {split: set(made.sources(labels, split).tolist()) for split in SPLITS}
    assert {split: len(found) for split, found in used.items()} == {"train": 1097, "validation": 200, "test": 500}
    assert len(set.union(*used.values())) == 1797
    for split in SPLITS:
        assert np.array_equal(labels[made.sources(labels, split)], made.digit_scenes(split).labels)


def test_no_photograph_pixel_serves_two_splits():
    height, width = 40, 640
    place = np.zeros((2, height, width, 3), dtype=np.uint8)
    place[..., 0] = np.arange(width) // 40
    used = {}
    for split in SPLITS:
        crops = painting.crops(place, 28, made.places(split), made.BAND_COUNT, uniform((1,), 3 * 3000).reshape(3, -1))
        used[split] = set(np.unique(crops[..., 0]).tolist())
        assert used[split] == set(made.BANDS[split])
    assert not used["train"] & used["test"] and not used["train"] & used["validation"]
    assert not used["test"] & used["validation"]


def test_crops_reach_both_photographs_and_every_corner_of_a_band():
    height = 427
    photographs = np.zeros((2, height, 640, 3), dtype=np.uint8)
    photographs[1, ..., 0] = 1
    photographs[..., 1] = np.arange(height)[:, None] // 2
    photographs[..., 2] = np.arange(640) % 40
    crops = painting.crops(
        photographs, 28, made.places("test"), made.BAND_COUNT, uniform((2,), 3 * 5000).reshape(3, -1)
    )
    assert set(np.unique(crops[..., 0])) == {0, 1}
    assert crops[..., 1].min() == 0 and crops[..., 1].max() == (height - 1) // 2
    assert (crops[:, 0, 0, 2].min(), crops[:, 0, -1, 2].max()) == (0, 39)


@pytest.mark.parametrize("split", SPLITS)
def test_the_mask_is_exactly_where_paint_went(split):
    """Two paintings in opposite colours differ where there is paint, and the bare crop shows everywhere else."""
    ink, labels = made.digits()
    source = made.sources(labels, split)
    draws = uniform((made.VERSION, list(made.COUNTS).index(split)), len(source) * 12).reshape(12, -1)
    tangent = made.LARGEST_TILT * (2 * draws[1] - 1)
    enlarged = painting.enlarged(ink[source], 28, 0.8 + 0.2 * draws[0], tangent, draws[2:4])
    opacity = painting.opacity(enlarged, 0.8 + 0.2 * draws[4])[..., None]
    background = painting.crops(made.photographs(), 28, made.places(split), made.BAND_COUNT, draws[5:8])
    black = painting.painted(background, np.zeros(3, dtype=np.int64), opacity)
    white = painting.painted(background, np.full(3, 255), opacity)
    scenes = made.digit_scenes(split)
    assert scenes.masks is not None
    assert np.array_equal((black != white).any(axis=3), scenes.masks.astype(bool))
    bare = np.broadcast_to(scenes.masks[:, None] == 0, scenes.images.shape)
    assert np.array_equal(scenes.images[bare], background.transpose(0, 3, 1, 2)[bare])
    assert 0.2 < scenes.masks.mean() < 0.5
    assert scenes.masks.any(axis=(1, 2)).all() and not scenes.masks.all(axis=(1, 2)).any()
