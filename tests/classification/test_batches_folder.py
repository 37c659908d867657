"""Batches from image folders: stateless, resumable without decoding, whatever the workers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

from adm_core.batch import Share
from adm_core.errors import AdmError
from tasks.classification.folder_batches import FolderBatches, folder_evaluation_batches
from tasks.datasets.class_folders import ImageFiles, list_images

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
SIZE = 28


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two classes of ten smooth pictures, larger than the crop and not square."""
    rng, root = np.random.default_rng(3), tmp_path_factory.mktemp("folder")
    for name in ("n01", "n02"):
        (root / name).mkdir()
        for number in range(10):
            coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
            coarse.resize((48, 40), Image.Resampling.BICUBIC).save(root / name / f"{number}.png")
    return root


def make(folder: Path, **changes) -> FolderBatches:
    settings = {"mean": MEAN, "std": STD, "size": SIZE, "workers": 0} | changes
    count = settings.pop("batch_size", 4)
    return FolderBatches(list_images(folder), count, settings.pop("seed", 0), "cpu", **settings)


def assert_equal_batches(found, expected):
    found, expected = list(found), list(expected)
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        for part in ("student_input", "teacher_input", "target", "index"):
            assert torch.equal(getattr(one, part), getattr(other, part))


def test_batches_have_the_in_memory_interface(folder):
    loader = make(folder)
    batches = list(loader.batches(0))
    assert loader.steps_per_epoch == len(batches) == 5
    assert batches[0].student_input.shape == (4, 3, SIZE, SIZE) and batches[0].student_input.dtype == torch.float32
    assert batches[0].student_input.is_contiguous(memory_format=torch.channels_last)
    assert batches[0].student_input is batches[0].teacher_input
    index = torch.cat([batch.index for batch in batches])
    assert sorted(index.tolist()) == list(range(20))
    assert torch.equal(torch.cat([batch.target for batch in batches]), index // 10)


def test_workers_and_earlier_epochs_change_nothing(folder):
    loader = make(folder, workers=2, views=2)
    epochs = [list(loader.batches(epoch)) for epoch in (0, 1)]
    for epoch, batches in enumerate(epochs):
        assert_equal_batches(make(folder, views=2).batches(epoch), batches)
    assert not torch.equal(epochs[0][0].student_input, epochs[1][0].student_input)


def test_an_epoch_left_early_does_not_disturb_the_next(folder):
    loader = make(folder, workers=2)
    next(iter(loader.batches(0)))
    assert_equal_batches(loader.batches(1), make(folder).batches(1))


def test_resuming_opens_no_skipped_image(folder):
    loader = make(folder)
    whole = list(loader.batches(2))
    opened: list[int] = []

    class Counting(ImageFiles):
        def read(self, position):
            opened.append(position)
            return super().read(position)

    images = list_images(folder)
    resumed = FolderBatches(
        Counting(images.files, images.labels, images.classes), 4, 0, "cpu", mean=MEAN, std=STD, size=SIZE, workers=0
    )
    assert_equal_batches(resumed.batches(2, 3), whole[3:])
    assert len(opened) == 8


def test_a_share_of_each_batch_opens_no_image_of_the_others(folder, monkeypatch):
    opened, read = [], ImageFiles.read
    monkeypatch.setattr(ImageFiles, "read", lambda files, at: (opened.append(at), read(files, at))[1])
    whole = list(make(folder).batches(1))
    opened.clear()
    for rank in range(2):
        share = Share(rank, 2, 4)
        assert_equal_batches(make(folder).batches(1, 2, share), [share.of(batch) for batch in whole[2:]])
    assert len(opened) == len(set(opened)) == 12


def test_the_global_generator_is_left_alone(folder):
    torch.manual_seed(4)
    before = torch.get_rng_state()
    for workers in (0, 2):
        list(make(folder, workers=workers).batches(0))
        list(folder_evaluation_batches(list_images(folder), 8, "cpu", MEAN, STD, SIZE, workers))
        assert torch.equal(before, torch.get_rng_state())


def test_case_04_a_protocol_may_switch_mirroring_off(tmp_path):
    """huggingface/pytorch-image-models#209: ``flip: false`` was ignored on folders."""
    (tmp_path / "a").mkdir()
    for number in range(12):  # dark on the left, whatever the crop
        Image.fromarray(np.tile(np.linspace(0, 255, 40, dtype=np.uint8), (40, 1))).save(
            tmp_path / "a" / f"{number}.png"
        )
    for flip in (True, False):
        (batch,) = make(tmp_path, flip=flip, batch_size=12).batches(0)
        mirrored = batch.student_input[..., 0].mean((1, 2)) > batch.student_input[..., -1].mean((1, 2))
        assert bool(mirrored.any()) == flip and not bool(mirrored.all())


def test_views_are_augmented_apart(folder):
    one, two = (next(make(folder, views=views).batches(0)) for views in (1, 2))
    assert torch.equal(one.student_input, two.student_input)
    assert not (two.student_input == two.teacher_input).flatten(1).all(dim=1).any()


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_is_the_centre_crop_in_order(folder, workers):
    images = list_images(folder)
    found = list(folder_evaluation_batches(images, 8, "cpu", MEAN, STD, SIZE, workers))
    assert [len(labels) for _, labels in found] == [8, 8, 4]
    assert torch.cat([labels for _, labels in found]).tolist() == [0] * 10 + [1] * 10
    for position in (0, 13):
        picture = functional.resize(images.read(position), round(SIZE * 256 / 224))
        expected = functional.to_tensor(functional.center_crop(picture, [SIZE, SIZE]))
        pixels = found[position // 8][0][position % 8]
        torch.testing.assert_close(pixels, functional.normalize(expected, MEAN, STD))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_one_error_that_names_it(folder, tmp_path, workers):
    for file in folder.rglob("*.png"):
        copy = tmp_path / file.relative_to(folder)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(file.read_bytes())
    broken = tmp_path / "n02" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    for batches in (
        make(tmp_path, workers=workers).batches(0),
        folder_evaluation_batches(list_images(tmp_path), 8, "cpu", MEAN, STD, SIZE, workers),
    ):
        with pytest.raises(AdmError, match=f"^{broken} is damaged: [^\n]*$"):
            list(batches)
