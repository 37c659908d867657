"""The second, stronger view of a batch: torchvision's own pipeline on each image, and nothing else moves."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional, v2

from adm_core.seeds import derive
from tasks.classification.batches import InMemoryBatches
from tasks.classification.folder_batches import FolderBatches
from tasks.datasets.class_folders import ImageFiles, list_images
from tasks.datasets.images import ImageSet

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def images(count: int = 24, side: int = 16) -> ImageSet:
    rng = np.random.default_rng(7)
    pixels = rng.integers(1, 256, (count, 3, side, side), dtype=np.uint8)
    return ImageSet(pixels, np.arange(count, dtype=np.int64) % 10, tuple("0123456789"))


def in_memory(**changes) -> InMemoryBatches:
    settings = {"crop_padding": 4, "flip": True, "mean": MEAN, "std": STD, "extra_view": True} | changes
    return InMemoryBatches(images(), settings.pop("batch_size", 8), settings.pop("seed", 0), "cpu", **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> ImageFiles:
    rng, root = np.random.default_rng(3), tmp_path_factory.mktemp("folder")
    for name in ("n01", "n02"):
        (root / name).mkdir()
        for number in range(6):
            coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
            coarse.resize((48, 40), Image.Resampling.BICUBIC).save(root / name / f"{number}.png")
    return list_images(root)


def from_folder(folder: ImageFiles, **changes) -> FolderBatches:
    settings = {"mean": MEAN, "std": STD, "size": 28, "workers": 0, "extra_view": True} | changes
    return FolderBatches(folder, 4, settings.pop("seed", 0), "cpu", **settings)


def from_seed(transform: v2.Transform, image: object, *path: int | str) -> torch.Tensor:
    torch.manual_seed(derive(0, *path))
    return transform(image)


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    return functional.normalize(pixels.float() / 255, MEAN, STD)


def test_an_image_in_memory_gets_torchvision_s_crop_flip_and_rand_augment():
    pipeline = v2.Compose([v2.RandomCrop(16, padding=4), v2.RandomHorizontalFlip(), v2.RandAugment(2, 9)])
    loader, given = in_memory(), torch.from_numpy(images().images)
    for epoch in (0, 3):
        for batch in loader.batches(epoch):
            views = [from_seed(pipeline, given[i], "stronger", epoch, i) for i in batch.index.tolist()]
            torch.testing.assert_close(batch.extra_input, normalised(torch.stack(views)))
            assert batch.extra_input.is_contiguous(memory_format=torch.channels_last)
            assert batch.extra_input.dtype == torch.float32


def test_an_image_of_a_folder_gets_the_task_s_own_augmentation_and_rand_augment(folder):
    pipeline = v2.Compose([v2.RandomResizedCrop(28), v2.RandomHorizontalFlip(), v2.RandAugment(2, 9), v2.PILToTensor()])
    for batch in from_folder(folder).batches(2):
        views = [from_seed(pipeline, folder.read(i), "stronger", 2, i) for i in batch.index.tolist()]
        torch.testing.assert_close(batch.extra_input, normalised(torch.stack(views)))


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_the_other_inputs_are_the_same_to_the_bit(folder, kind, views):
    made = [
        in_memory(views=views, extra_view=extra) if kind == "memory" else
        from_folder(folder, views=views, extra_view=extra) for extra in (False, True)
    ]  # fmt: skip
    for without, with_ in zip(made[0].batches(1), made[1].batches(1), strict=True):
        for part in ("student_input", "teacher_input", "target", "index"):
            assert torch.equal(getattr(without, part), getattr(with_, part)), part
        assert (with_.student_input is with_.teacher_input) == (views == 1)
        assert without.extra_input is None and with_.extra_input.shape == with_.student_input.shape
        assert not (with_.extra_input == with_.student_input).flatten(1).all(1).any()


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_a_view_follows_from_seed_epoch_and_image_alone(folder, kind):
    def make(**changes):
        return in_memory(**changes) if kind == "memory" else from_folder(folder, **changes)

    whole = list(make().batches(1))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    resumed = list(make().batches(1, start=1))
    assert torch.equal(before, torch.get_rng_state())
    for one, other in zip(resumed, whole[1:], strict=True):
        assert torch.equal(one.extra_input, other.extra_input)
    for changed in (make(seed=1).batches(1), make().batches(2)):
        views = {int(i): x for b in changed for i, x in zip(b.index, b.extra_input, strict=True)}
        assert not any(
            torch.equal(views[int(i)], x) for b in whole for i, x in zip(b.index, b.extra_input, strict=True)
        )


def test_the_view_of_an_image_does_not_depend_on_its_batch():
    def views(**changes):
        return {int(i): x for b in in_memory(**changes).batches(0) for i, x in zip(b.index, b.extra_input, strict=True)}

    small, large = views(batch_size=4), views(batch_size=12)
    assert small.keys() == large.keys() == set(range(24))
    assert all(torch.equal(small[i], large[i]) for i in small)


def test_torchvision_is_loaded_only_where_the_view_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "tasks.classification.stronger", None)  # it imports torchvision
    train = ImageSet(np.zeros((4, 3, 8, 8), np.uint8), np.zeros(4, np.int64), ("a",))
    common = {"mean": (0,) * 3, "std": (1,) * 3}
    InMemoryBatches(train, 2, 0, "cpu", **common, extra_view=False)
    with pytest.raises(ImportError, match="stronger"):
        InMemoryBatches(train, 2, 0, "cpu", **common, extra_view=True)
