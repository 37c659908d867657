"""Training examples and batches: MMSegmentation's transforms, seeded, with labels that follow their pixels."""

import cv2
import numpy as np
import pytest
import torch

from adm_core.batch import Share
from adm_core.errors import AdmError
from tasks.datasets.loading import ExampleLoader, Request
from tasks.datasets.scenes import VOID, Scenes
from tasks.segmentation.batches import TrainingBatches, evaluation_batches
from tasks.segmentation.data_settings import DataSettings, read
from tasks.segmentation.pipeline import PADDING, TrainingExamples

CPU = torch.device("cpu")
CLASSES, PALETTE = ("a", "b", "c"), ((0, 0, 0), (255, 0, 0), (0, 255, 0))


def scenes(count=12, side=24, void=True):
    """Images whose pixels say their class: red 10, 120 or 230 for classes 0 to 2; void is 60."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (count, side // 4, side // 4)).repeat(4, 1).repeat(4, 2).astype(np.uint8)
    if void:
        labels[:, :4, :4] = VOID
    red = np.where(labels == VOID, 60, 10 + 110 * (labels % 3)).astype(np.uint8)
    images = np.stack([red, 255 - red, np.full_like(red, 7)], axis=-1)
    return Scenes(images, labels, CLASSES, PALETTE, tuple(f"scene {i}" for i in range(count)))


def first(batches):
    return next(iter(batches))


def test_labels_follow_their_pixels_through_crop_and_flip():
    settings = DataSettings(crop=(16, 20), flip=True)
    for batch in TrainingBatches(scenes(), settings, 4, 0, CPU).batches(0):
        red = batch.student_input[:, 0]
        assert batch.student_input.shape == (4, 3, 16, 20) and batch.target.dtype == torch.int64
        assert torch.equal(red == 60, ~batch.mask)
        assert torch.equal(((red - 10) / 110).long()[batch.mask], batch.target[batch.mask])
        assert (batch.target[~batch.mask] == 0).all()


def test_labels_follow_their_pixels_through_resizing():
    settings = DataSettings(crop=(16, 16), scale=(0.5, 2.0), flip=True)
    agree = total = 0
    for batch in TrainingBatches(scenes(void=False), settings, 4, 0, CPU).batches(0):
        nearest = ((batch.student_input[:, 0] - 10) / 110).round().long()
        agree += int((nearest == batch.target)[batch.mask].sum())
        total += int(batch.mask.sum())
    assert agree / total > 0.8  # colours mix at the borders between classes, labels do not


def test_an_image_smaller_than_the_crop_is_padded_with_the_mean_and_void():
    batch = first(TrainingBatches(scenes(side=8, void=False), DataSettings(crop=(16, 12)), 2, 0, CPU).batches(0))
    assert batch.mask.sum() == 2 * 8 * 8
    padded = batch.student_input.permute(0, 2, 3, 1)[~batch.mask]
    assert torch.equal(padded.unique(dim=0), torch.tensor([PADDING[::-1]], dtype=torch.float32))


def test_batches_follow_from_seed_and_epoch_and_can_begin_anywhere():
    settings = DataSettings(crop=(16, 16), scale=(0.5, 2.0), colour=True)

    def run(seed, epoch, start=0):
        return [b.student_input for b in TrainingBatches(scenes(), settings, 4, seed, CPU).batches(epoch, start)]

    whole = run(1, 0)
    assert all(torch.equal(a, b) for a, b in zip(whole, run(1, 0), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], run(1, 0, start=2), strict=True))
    assert not torch.equal(whole[0], run(1, 1)[0]) and not torch.equal(whole[0], run(2, 0)[0])


def test_a_share_of_each_batch_is_what_the_whole_has_there():
    loader = TrainingBatches(scenes(), DataSettings(crop=(16, 16), colour=True), 4, 0, CPU)
    whole = list(loader.batches(0))
    for rank in range(2):
        share = Share(rank, 2, 2)
        for own, batch in zip(loader.batches(0, 0, share), whole, strict=True):
            expected = share.of(batch)
            assert torch.equal(own.student_input, expected.student_input) and torch.equal(own.mask, expected.mask)
            assert torch.equal(own.target, expected.target) and own.index.tolist() == expected.index.tolist()


def test_worker_processes_make_the_same_examples():
    settings = DataSettings(crop=(16, 16), colour=True)
    here = [b.student_input for b in TrainingBatches(scenes(), settings, 4, 0, CPU, workers=0).batches(0)]
    there = [b.student_input for b in TrainingBatches(scenes(), settings, 4, 0, CPU, workers=2).batches(0)]
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


def test_making_examples_leaves_the_global_generators_alone():
    examples = TrainingExamples(scenes(), DataSettings(crop=(16, 16), colour=True), 0, 1)
    np.random.seed(5)
    expected = np.random.rand(3)
    np.random.seed(5)
    examples[Request(0, 0)]
    assert np.array_equal(np.random.rand(3), expected)


def test_views_of_their_own_differ_in_colour_and_never_in_place():
    settings = DataSettings(crop=(16, 16), scale=(0.5, 2.0), colour=True)
    batch = first(TrainingBatches(scenes(), settings, 4, 0, CPU, views=2).batches(0))
    shared = first(TrainingBatches(scenes(), settings, 4, 0, CPU, views=1).batches(0))
    assert not torch.equal(batch.student_input, batch.teacher_input)
    assert torch.equal(batch.target, shared.target) and torch.equal(batch.student_input, shared.student_input)
    without = DataSettings(crop=(16, 16), flip=True)
    several = first(TrainingBatches(scenes(), settings, 4, 0, CPU, views=3).batches(0))
    assert torch.equal(several.teacher_input, batch.teacher_input) and len(several.peer_inputs) == 1
    assert not torch.equal(several.peer_inputs[0], batch.teacher_input)
    batch = first(TrainingBatches(scenes(), without, 4, 0, CPU, views=2).batches(0))
    assert torch.equal(batch.student_input, batch.teacher_input)


def test_an_image_without_a_labelled_pixel_is_named():
    empty = scenes()
    empty.labels[3] = VOID
    with pytest.raises(AdmError, match="scene 3: every pixel is void"):
        list(TrainingBatches(empty, DataSettings(crop=(16, 16)), 4, 0, CPU).batches(0))
    with pytest.raises(AdmError, match="scene 3: every pixel is void"):
        list(evaluation_batches(empty, 5, CPU))


def test_evaluation_sees_every_image_whole_and_in_order():
    source = scenes(7)
    batches = list(evaluation_batches(source, 3, CPU))
    assert [len(batch.images) for batch in batches] == [3, 3, 1]
    images = torch.cat([batch.images for batch in batches]).permute(0, 2, 3, 1)
    assert torch.equal(images, torch.from_numpy(source.images).float())
    assert torch.equal(torch.cat([batch.labels for batch in batches]), torch.from_numpy(source.labels))


def test_images_of_different_sizes_are_not_stacked():
    class Mixed:
        sizes = (8, 8, 12, 8)

        def __len__(self):
            return len(self.sizes)

        def read(self, i):
            side = self.sizes[i]
            return np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8)

    assert [len(batch.images) for batch in evaluation_batches(Mixed(), 4, CPU)] == [2, 1, 1]


def test_more_examples_to_a_batch_than_there_are_is_told():
    with pytest.raises(AdmError, match="batch_size 13 is more than the 12 training images"):
        TrainingBatches(scenes(), DataSettings(crop=(16, 16)), 13, 0, CPU)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"crop": [64, 64], "flp": True}, r"data\.flp.*data\.flip"),
        ({}, r"data\.crop.*required"),
        ({"crop": [0, 4]}, "1 pixel or more"),
        ({"crop": [8, 8], "scale": [2.0, 0.5]}, "smallest and a largest factor"),
        ({"crop": [8, 8], "validation": "mine"}, "should be 'own'"),
        ({"crop": [8, 8], "scored": "validation"}, "needs a validation split"),
        ({"crop": [8, 8], "sliding": {"crop": 8}}, r"data\.sliding\.stride"),
        ({"crop": [8, 8], "class_limit": 2}, r"data\.class_limit"),
    ],
)
def test_settings_that_make_no_sense_are_told_by_key(data, told):
    with pytest.raises(AdmError, match=f"protocol 'x'.*{told}"):
        read(data, "protocol 'x'")


class Threads(TrainingExamples):
    """Examples whose position is replaced by the number of OpenCV's threads where they are made."""

    def __getitem__(self, request):
        made = super().__getitem__(request)
        return made._replace(position=torch.tensor(cv2.getNumThreads()))


@pytest.mark.parametrize("workers", [0, 1])
def test_opencv_takes_one_thread_in_this_process_and_in_those_of_a_loader(workers):
    settings = DataSettings(crop=(16, 16), colour=True)
    examples = Threads(scenes(), settings, 0, 1)
    loader = ExampleLoader(examples, CPU, workers)
    (batch,) = loader.batches([Request(position, 0) for position in range(2)], 2)
    assert batch.position.tolist() == [1, 1]
