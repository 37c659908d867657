"""digit-hues@1: the same bytes everywhere, splits that share nothing, masks that are exact, hues that
overlap a little."""

import colorsys

import numpy as np
import pytest

from tasks.datasets import digit_hues as made
from tasks.datasets import digit_scenes
from tasks.datasets.sample_files import digits

DIGESTS = {
    "train": "8689dd52dbfd7d8984c38f56ef4b8a014041a1e327c06631955387cb20c718e7",
    "validation": "7219a278a1841d29caf8c870f88f9793bac021ffaeb19b46f673507ec2fd8cee",
    "test": "30e18e25ab1c33a0418aa62d51a5197bbacfc645b6bad46499e32a5f5d9c85f8",
}
SPLITS = tuple(DIGESTS)


@pytest.fixture(scope="module")
def splits():
    return {split: made.digit_hues(split) for split in SPLITS}


@pytest.mark.parametrize("split", SPLITS)
def test_version_1_never_changes(splits, split):
    assert made.VERSION == 1
    assert splits[split].digest() == DIGESTS[split]


@pytest.mark.parametrize("split", SPLITS)
def test_classes_are_balanced_in_every_prefix(splits, split):
    found = splits[split]
    assert found.images.shape == (made.COUNTS[split], 3, 24, 24)
    assert set(np.bincount(found.labels)) == {made.COUNTS[split] // 100}
    assert sorted(found.labels[100:200]) == list(range(100))
    assert [found.classes[label] for label in found.labels[:12]][::11] == ["red 0", "orange 1"]


@pytest.mark.parametrize("split", SPLITS)
def test_every_digit_that_a_split_keeps_is_shown_in_several_hues(split):
    _, labels = digits()
    own = digit_scenes.own_digits(labels, split)
    shown = {(int(source), int(hue)) for source, hue in zip(made.sources(labels, split), made.hues(split), strict=True)}
    assert {source for source, _ in shown} <= {int(source) for found in own for source in found}
    assert len({source for source, _ in shown}) == sum(map(len, own))
    several = np.bincount([source for source, _ in shown])
    assert several[several > 0].min() >= 3


@pytest.fixture(scope="module")
def on_black():
    """The test split painted on black photographs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "photographs", lambda: np.zeros((2, 427, 640, 3), dtype=np.uint8))
        return made.digit_hues("test")


def test_the_mask_is_exactly_where_paint_went(splits, on_black):
    """Off the mask the bare crop shows; on it, paint of at least a 255th."""
    assert on_black.masks is not None and np.array_equal(on_black.masks, splits["test"].masks)
    assert not on_black.images.any(axis=1)[on_black.masks == 0].any()
    shown = (on_black.images.max(axis=1) > 0)[on_black.masks == 1].mean()
    assert shown > 0.98  # what is less opaque rounds to black
    assert 0.25 < on_black.masks.mean() < 0.45


def test_hues_stray_from_their_class_triangularly_and_overlap_with_the_next_alone(on_black):
    pixels = on_black.images.reshape(len(on_black), 3, -1)
    brightest = np.take_along_axis(pixels, pixels.sum(1, dtype=np.int64).argmax(1)[:, None, None], axis=2)[:, :, 0]
    angle = np.array([colorsys.rgb_to_hsv(*colour)[0] for colour in brightest / 255]) * 10
    away = (angle - on_black.labels % 10 + 5) % 10 - 5
    assert 0.5 < np.abs(away).max() < made.STRAY + 0.1
    np.testing.assert_allclose(away.std(), made.STRAY / np.sqrt(6), rtol=0.05)
    assert 0.02 < (np.abs(away) > 0.5).mean() < 0.04
