"""Class-balanced batches, in memory and from folders: the right counts, from (seed, epoch, step) alone."""

import numpy as np
import pytest
import torch
from PIL import Image

from adm_core.errors import AdmError
from adm_core.seeds import derive
from tasks.classification.balanced import BalancedOrder
from tasks.classification.batches import InMemoryBatches
from tasks.classification.folder_batches import FolderBatches
from tasks.datasets.class_folders import ImageFiles, list_images
from tasks.datasets.images import ImageSet

COUNTS = (3, 9, 4, 12, 7)
"""Images of each class; 35 in all."""
PLAIN = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}


def labels() -> np.ndarray:
    """Classes in a fixed disorder."""
    return np.random.default_rng(1).permutation(np.repeat(np.arange(5), COUNTS))


def in_memory(per_class: int, batch_size: int = 8, seed: int = 0, **changes) -> InMemoryBatches:
    images = np.random.default_rng(0).integers(0, 256, (35, 3, 4, 4), dtype=np.uint8)
    train = ImageSet(images, labels(), tuple("abcde"))
    return InMemoryBatches(train, batch_size, seed, "cpu", per_class=per_class, **PLAIN, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> ImageFiles:
    root = tmp_path_factory.mktemp("folder")
    for name, count in zip("abcde", COUNTS, strict=True):
        (root / name).mkdir()
        for number in range(count):
            Image.new("RGB", (9, 9), (number, 0, 0)).save(root / name / f"{number}.png")
    return list_images(root)


def test_every_batch_has_different_classes_and_different_examples_of_each_side_by_side():
    loader = in_memory(per_class=2)
    for epoch in range(20):
        batches = list(loader.batches(epoch))
        assert len(batches) == loader.steps_per_epoch == in_memory(per_class=0).steps_per_epoch == 4
        for batch in batches:
            pairs = batch.target.view(4, 2)
            assert torch.equal(pairs[:, 0], pairs[:, 1]) and len(pairs[:, 0].unique()) == 4
            assert len(batch.index.unique()) == 8
            assert torch.equal(batch.target, torch.from_numpy(labels())[batch.index])


def test_halves_of_a_batch_are_balanced_too():
    first, second = next(in_memory(per_class=2).batches(0)).chunks(2)
    assert all(len(half.target.unique()) == 2 for half in (first, second))


def test_classes_and_their_examples_occur_evenly():
    order = BalancedOrder(torch.from_numpy(labels()), 6, 3, seed=5)
    drawn = torch.cat([order.order(epoch, 50) for epoch in range(20)])
    seen = torch.bincount(drawn, minlength=35)
    for own, count in enumerate(COUNTS):
        # two of five classes in each of 1000 batches, three of a class's examples
        expected = 1000 * 2 / 5 * 3 / count
        there = seen[torch.from_numpy(labels() == own)]
        assert there.sum() == pytest.approx(1200, abs=4 * np.sqrt(1000 * 9 * 0.24))
        assert (there - expected).abs().max() < 5 * np.sqrt(expected)


def test_a_step_s_examples_follow_from_seed_epoch_and_step_alone():
    whole = list(in_memory(per_class=2).batches(3))
    for start in (0, 2):
        for one, other in zip(in_memory(per_class=2).batches(3, start), whole[start:], strict=True):
            assert torch.equal(one.index, other.index) and torch.equal(one.student_input, other.student_input)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    other = list(in_memory(per_class=2, seed=1).batches(3))
    assert torch.equal(before, torch.get_rng_state())
    assert not any(torch.equal(a.index, b.index) for a, b in zip(whole, other, strict=True))
    order = BalancedOrder(torch.from_numpy(labels()), 8, 2, seed=0)
    assert torch.equal(order.order(3, 9)[: 4 * 8], torch.cat([batch.index for batch in whole]))


def test_unbalanced_batches_are_those_that_they_were_before_there_were_balanced_ones():
    generator = torch.Generator().manual_seed(derive(0, "epoch", 0))
    assert torch.equal(in_memory(per_class=0).plan(0).order, torch.randperm(35, generator=generator))


def test_folders_are_balanced_as_images_in_memory_are(folder):
    loader = FolderBatches(folder, 6, 0, "cpu", per_class=3, size=8, workers=0, **PLAIN)
    order = BalancedOrder(torch.tensor(folder.labels), 6, 3, seed=0)
    for start in (0, 2):
        batches = list(loader.batches(1, start))
        assert len(batches) == 5 - start
        assert torch.equal(torch.cat([b.index for b in batches]), order.order(1, 5)[start * 6 :])
        assert all(len(b.target.unique()) == 2 and b.target.bincount().max() == 3 for b in batches)
        assert all(torch.equal(b.target, torch.tensor(folder.labels)[b.index]) for b in batches)


@pytest.mark.parametrize(
    ("batch_size", "per_class", "says"),
    [
        (9, 2, "need a batch_size that is a multiple of 2, not 9"),
        (12, 2, "need 6 classes, there are 5; take a batch_size of at most 10, or more examples per class"),
        (8, 4, "of class 0 there are only 3 to train on"),
    ],
)
def test_batches_that_cannot_be_balanced_are_refused(folder, batch_size, per_class, says):
    with pytest.raises(AdmError, match=says):
        in_memory(per_class, batch_size)
    with pytest.raises(AdmError, match=says):
        FolderBatches(folder, batch_size, 0, "cpu", per_class=per_class, size=8, workers=0, **PLAIN)
