"""In-memory batches: torchvision's augmentation, from (seed, epoch) alone."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms import functional

from adm_core.errors import AdmError
from tasks.classification.batches import InMemoryBatches, crop_and_flip, evaluation_batches
from tasks.datasets.images import ImageSet

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
PADDING = 4


def noise(count: int, side: int = 16) -> ImageSet:
    """Images of random pixels, no two crops alike."""
    rng = np.random.default_rng(7)
    images = rng.integers(1, 256, (count, 3, side, side), dtype=np.uint8)
    return ImageSet(images, np.arange(count, dtype=np.int64) % 10, tuple("0123456789"))


def make(images: ImageSet, **changes) -> InMemoryBatches:
    settings = {"crop_padding": PADDING, "flip": True, "mean": MEAN, "std": STD} | changes
    return InMemoryBatches(images, settings.pop("batch_size", 8), settings.pop("seed", 0), "cpu", **settings)


def all_crops(image: torch.Tensor) -> torch.Tensor:
    """All 81 x 2 outcomes of torchvision's random crop and flip on one uint8 image [3, S, S], normalised."""
    side, padded = image.shape[1], functional.pad(image, [PADDING] * 4, fill=0)
    corners = range(2 * PADDING + 1)
    crops = [functional.crop(padded, top, left, side, side) for top in corners for left in corners]
    crops = torch.stack([*crops, *(functional.hflip(crop) for crop in crops)])
    return functional.normalize(crops.float() / 255, MEAN, STD)


def assert_equal_batches(found, expected):
    found, expected = list(found), list(expected)
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        for part in ("student_input", "teacher_input", "target", "index"):
            assert torch.equal(getattr(one, part), getattr(other, part))


def test_crop_and_flip_is_torchvision_s_at_every_offset():
    images = noise(1)
    rows = torch.from_numpy(images.images).permute(0, 2, 3, 1).contiguous().expand(162, -1, -1, -1)
    corners = torch.cartesian_prod(torch.arange(2), torch.arange(9), torch.arange(9))
    mirrored, top, left = corners.T
    found = crop_and_flip(rows, PADDING, top, left, mirrored.bool()).permute(0, 3, 1, 2)
    expected = all_crops(torch.from_numpy(images.images[0]))
    torch.testing.assert_close(functional.normalize(found.float() / 255, MEAN, STD), expected)


def test_every_augmented_image_is_one_of_the_possible_crops_and_all_occur_evenly():
    images = noise(20)
    loader = make(images, batch_size=20)
    crops = torch.stack([all_crops(torch.from_numpy(image)) for image in images.images]).flatten(2)
    seen = torch.zeros(162)
    epochs = 400
    for epoch in range(epochs):
        for batch in loader.batches(epoch):
            distance = (crops[batch.index] - batch.student_input.flatten(1)[:, None]).abs().amax(dim=2)
            nearest, outcome = distance.min(dim=1)
            assert nearest.max() < 1e-5
            seen += torch.bincount(outcome, minlength=162)
    expected = epochs * 20 / 162
    chi_squared = ((seen - expected) ** 2 / expected).sum().item()
    assert abs(chi_squared - 161) < 4 * math.sqrt(2 * 161)


def test_inputs_are_normalised_float32_in_channels_last_memory():
    images = noise(16)
    batch = next(make(images, crop_padding=0, flip=False).batches(0))
    assert batch.student_input.dtype == torch.float32 and batch.student_input.shape == (8, 3, 16, 16)
    assert batch.student_input.is_contiguous(memory_format=torch.channels_last)
    expected = functional.normalize(torch.from_numpy(images.images[batch.index]).float() / 255, MEAN, STD)
    torch.testing.assert_close(batch.student_input, expected)
    assert torch.equal(batch.target, torch.from_numpy(images.labels)[batch.index])
    assert batch.student_input is batch.teacher_input


def test_an_epoch_shows_every_example_once_in_an_order_of_its_own():
    loader = make(noise(30), drop_last=False)
    first, second = (torch.cat([batch.index for batch in loader.batches(epoch)]) for epoch in (0, 1))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(30))
    assert first.tolist() != second.tolist()


def test_a_last_partial_batch_is_dropped_or_kept():
    sizes = [len(batch.index) for batch in make(noise(30), drop_last=False).batches(0)]
    assert sizes == [8, 8, 8, 6] and make(noise(30), drop_last=False).steps_per_epoch == 4
    sizes = [len(batch.index) for batch in make(noise(30)).batches(0)]
    assert sizes == [8, 8, 8] and make(noise(30)).steps_per_epoch == 3


@pytest.mark.parametrize("views", [1, 2])
def test_resuming_in_the_middle_of_an_epoch_changes_nothing(views):
    whole = list(make(noise(64), views=views).batches(5))
    torch.manual_seed(99)
    list(make(noise(64), views=views).batches(4))
    for start in (0, 3, 7):
        assert_equal_batches(make(noise(64), views=views).batches(5, start), whole[start:])
    assert not list(make(noise(64), views=views).batches(5, 8))


def test_batches_leave_the_global_generator_alone_and_do_not_depend_on_it():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = list(make(noise(32)).batches(0))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert_equal_batches(make(noise(32)).batches(0), first)


def test_seeds_and_epochs_differ():
    inputs = [next(make(noise(32), seed=seed).batches(epoch)).student_input for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert not any(torch.equal(inputs[a], inputs[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_a_second_view_is_the_same_examples_augmented_apart():
    one, two = (next(make(noise(64), batch_size=64, views=views).batches(0)) for views in (1, 2))
    assert torch.equal(one.student_input, two.student_input)
    same = (two.student_input == two.teacher_input).flatten(1).all(dim=1)
    assert same.sum() < 5
    crops = torch.stack([all_crops(torch.from_numpy(image)) for image in noise(64).images]).flatten(2)
    distance = (crops[two.index] - two.teacher_input.flatten(1)[:, None]).abs().amax(dim=2)
    assert distance.min(dim=1).values.max() < 1e-5


def test_further_views_are_the_peers_and_leave_the_others_as_they_are():
    two, four = (next(make(noise(64), batch_size=64, views=views).batches(0)) for views in (2, 4))
    assert torch.equal(two.student_input, four.student_input) and torch.equal(two.teacher_input, four.teacher_input)
    assert two.peer_inputs == () and len(four.peer_inputs) == 2
    every = [four.student_input, four.teacher_input, *four.peer_inputs]
    pairs = [(a == b).flatten(1).all(dim=1).sum() for n, a in enumerate(every) for b in every[:n]]
    assert max(pairs) < 5
    given = {role: four.input_of(role) for role in ("student", "teacher", "peer1", "peer2")}
    assert all(a is b for a, b in zip(given.values(), every, strict=True))
    assert two.input_of("peer1") is two.student_input
    halves = list(four.chunks(2))
    assert torch.equal(torch.cat([half.peer_inputs[1] for half in halves]), four.peer_inputs[1])


def test_evaluation_is_in_order_unaugmented_and_complete():
    images = noise(30)
    found = list(evaluation_batches(images, 8, "cpu", MEAN, STD))
    assert [len(labels) for _, labels in found] == [8, 8, 8, 6]
    expected = functional.normalize(torch.from_numpy(images.images).float() / 255, MEAN, STD)
    torch.testing.assert_close(torch.cat([pixels for pixels, _ in found]), expected)
    assert torch.equal(torch.cat([labels for _, labels in found]), torch.from_numpy(images.labels))
    assert found[0][0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batch_size": 31}, "batch_size 31 is larger than the 30 training images"),
        ({"batch_size": 0}, "batch_size must be 1 or more, not 0"),
        ({"views": 0}, "views must be 1 or more, not 0"),
        ({"crop_padding": -1}, "crop_padding must be 0 or more, not -1"),
        ({"std": (0.2, 0.0, 0.2)}, "3 positive deviations"),
        ({"mean": (0.5,)}, "needs 3 means"),
    ],
)
def test_settings_out_of_range_are_refused(changes, says):
    with pytest.raises(AdmError, match=says):
        make(noise(30), **changes)
