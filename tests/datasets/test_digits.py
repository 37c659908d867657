"""digits: the real digits, each in one split, the same bytes everywhere."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tasks import datasets
from tasks.datasets import digits as made
from tasks.datasets.digit_scenes import sources

COUNTS = {"train": 1097, "validation": 200, "test": 500}
DIGESTS = {
    "train": "bdf2f7d6bae1dbd365738a0e26e160fa2ebe35c0d25dae7c25cdc77b38b56ac9",
    "validation": "8e6da44a9e1983eb1ac017a530d7c558d4a7a06a22cdaca739d57c39499fcf4d",
    "test": "27dcf369657897d670a8628ca5073d2f677b6ecf8d7573f1a0d146549a7be1e1",
}


@pytest.fixture(scope="module")
def splits():
    return {split: datasets.load("digits", split, []) for split in COUNTS}


@pytest.mark.parametrize("split", COUNTS)
def test_version_1_never_changes(splits, split):
    assert made.VERSION == 1
    assert splits[split].digest() == DIGESTS[split]


def test_every_digit_is_in_one_split_and_looks_as_scikit_learn_has_it(splits):
    theirs = load_digits()
    ink = {split: np.rint(found.images[:, 0] / 255 * 16).astype(int) for split, found in splits.items()}
    assert {split: len(images) for split, images in ink.items()} == COUNTS
    together = np.concatenate([*ink.values()]).reshape(1797, 64)
    labels = np.concatenate([found.labels for found in splits.values()])
    order, expected = np.lexsort((*together.T, labels)), np.lexsort((*theirs.data.T, theirs.target))
    assert np.array_equal(together[order], theirs.data[expected])
    assert np.array_equal(labels[order], theirs.target[expected])
    assert len(np.unique(together, axis=0)) == 1797


def test_held_out_classes_are_balanced_and_the_same_as_those_of_digit_scenes(splits):
    assert np.bincount(splits["test"].labels).tolist() == [50] * 10
    assert np.bincount(splits["validation"].labels).tolist() == [20] * 10
    theirs = load_digits()
    shown = np.unique(sources(theirs.target.astype(np.int64), "test"))
    assert np.array_equal(np.rint(splits["test"].images[:, 0] / 255 * 16), theirs.images[shown])


def test_ink_is_white_and_its_sixteenths_stay_apart(splits):
    images = splits["train"].images
    assert images.shape == (1097, 1, 8, 8) and images.dtype == np.uint8
    assert sorted(np.unique(images)) == [int(np.floor(n * 255 / 16 + 0.5)) for n in range(17)]
