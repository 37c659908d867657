"""Image sets: what they accept, and the splits and subsets cut from them."""

import numpy as np
import pytest

from adm_core.errors import AdmError
from tasks.datasets.images import ImageSet, uniform


def numbered(per_class: list[int]) -> ImageSet:
    """Images that carry their position in their first pixel; classes of the given sizes, interleaved."""
    labels = np.concatenate([np.full(n, label) for label, n in enumerate(per_class)]).astype(np.int64)
    labels = labels[np.argsort(uniform((5,), len(labels)))]
    images = np.zeros((len(labels), 3, 2, 2), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 1, 0, 0] = np.divmod(np.arange(len(labels)), 256)
    return ImageSet(images, labels, tuple(f"class {n}" for n in range(len(per_class))))


def positions(image_set: ImageSet) -> list[int]:
    """Where each image stood in the numbered set."""
    return (image_set.images[:, 0, 0, 0].astype(int) * 256 + image_set.images[:, 1, 0, 0]).tolist()


def test_a_carved_split_is_balanced_complete_and_repeatable():
    whole = numbered([100, 50, 10])
    train, validation = whole.carve(0.1, seed=3)
    assert np.bincount(validation.labels).tolist() == [10, 5, 1]
    assert sorted(positions(train) + positions(validation)) == list(range(160))
    assert positions(train) == sorted(positions(train))
    assert positions(whole.carve(0.1, seed=3)[1]) == positions(validation)
    assert positions(whole.carve(0.1, seed=4)[1]) != positions(validation)


def test_a_count_is_met_exactly_where_classes_do_not_divide():
    whole = numbered([33, 33, 34])
    _, validation = whole.carve(10, seed=0)
    assert len(validation) == 10
    assert np.bincount(validation.labels).tolist() == [3, 3, 4]


def test_labels_and_masks_follow_their_images():
    whole = numbered([40, 40])
    masks = (whole.images[:, 1] % 2).astype(np.uint8)
    whole = ImageSet(whole.images, whole.labels, whole.classes, masks)
    train, _ = whole.carve(0.25)
    assert train.masks is not None
    assert np.array_equal(train.labels, whole.labels[positions(train)])
    assert np.array_equal(train.masks, masks[positions(train)])


@pytest.mark.parametrize("size", [0.0, 1.0, 0, 160, 1e-9, -1])
def test_an_empty_part_is_refused(size):
    with pytest.raises(AdmError, match="carving a validation split"):
        numbered([100, 50, 10]).carve(size)


def test_a_limited_set_is_balanced_and_always_the_same():
    whole = numbered([60, 60, 60])
    small = whole.limit(30)
    assert np.bincount(small.labels).tolist() == [10, 10, 10]
    assert positions(small) == positions(whole.limit(30)) == sorted(positions(small))
    assert whole.limit(500) is whole
    with pytest.raises(AdmError, match="1 image or more"):
        whole.limit(0)


def test_the_digest_sees_content_and_not_memory_layout():
    whole = numbered([5, 5])
    rows = np.ascontiguousarray(whole.images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert ImageSet(rows, whole.labels, whole.classes).digest() == whole.digest()
    changed = whole.images.copy()
    changed[3, 2, 1, 0] += 1
    relabelled = np.roll(whole.labels, 1)
    masks = np.zeros((10, 2, 2), dtype=np.uint8)
    digests = {
        whole.digest(),
        ImageSet(changed, whole.labels, whole.classes).digest(),
        ImageSet(whole.images, relabelled, whole.classes).digest(),
        ImageSet(whole.images, whole.labels, ("a", "b")).digest(),
        ImageSet(whole.images, whole.labels, whole.classes, masks).digest(),
    }
    assert len(digests) == 5


IMAGES, LABELS = np.zeros((4, 3, 2, 2), dtype=np.uint8), np.zeros(4, dtype=np.int64)


@pytest.mark.parametrize(
    ("images", "labels", "masks", "says"),
    [
        (IMAGES.astype(np.float32), LABELS, None, r"images must be uint8 \[N, C, H, W\] .* not float32"),
        (IMAGES[:, :2], LABELS, None, r"1 or 3 channels, not uint8 \[4, 2, 2, 2\]"),
        (IMAGES, LABELS[:3], None, r"labels must be int64 \[4\]"),
        (IMAGES, LABELS + 2, None, r"labels must lie in 0..1, not 2..2"),
        (IMAGES, LABELS, IMAGES[:, 0, :1], r"masks must be uint8 \[4, 2, 2\]"),
        (IMAGES, LABELS, IMAGES[:, 0] + 255, "masks must hold 0 and 1 only, not 255"),
    ],
)
def test_what_is_not_an_image_set_is_refused(images, labels, masks, says):
    with pytest.raises(AdmError, match=says):
        ImageSet(images, labels, ("a", "b"), masks)


def test_grey_images_are_an_image_set_too():
    grey = ImageSet(IMAGES[:, :1], LABELS, ("a", "b"))
    assert grey.take(np.array([2, 0])).images.shape == (2, 1, 2, 2)


def test_draws_are_those_of_pcg64():
    expected = np.random.Generator(np.random.PCG64(np.random.SeedSequence([1, 2]))).random(1000)
    assert np.array_equal(uniform((1, 2), 1000), expected)
