"""A second, stronger augmentation of each example: the task's own crop and flip, then RandAugment.

RandAugment (Cubuk et al., arXiv:1909.13719) is torchvision's, with 2 operations of magnitude 9 of its 31 bins, on
uint8 pixels, image by image on the CPU. What an image becomes follows from (seed, epoch, image) alone, from a stream
of random numbers of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from adm_core.seeds import derive
from tasks.datasets.images import ImageSet
from tasks.datasets.loading import Example, ExampleLoader, Request

OPERATIONS, MAGNITUDE = 2, 9


def rand_augment() -> v2.Transform:
    """RandAugment of uint8 images, PIL or [3, H, W]."""
    return v2.RandAugment(OPERATIONS, MAGNITUDE)


def apply_from(seed: int, transform: v2.Transform, image: object) -> Tensor:
    """What a transform makes of an image with random numbers from a seed; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        pixels: Tensor = transform(image)
    return pixels


class StrongerViews:
    """The stronger views of images in memory.

    Args:
        train: the training images.
        seed: of the batches.
        device: where the views go; for a GPU worker processes make them, one per core, at most 8.
        crop_padding: black pixels on each side before the crop; 0 for no cropping.
        flip: whether images are mirrored at random.
    """

    def __init__(self, train: ImageSet, seed: int, device: torch.device, crop_padding: int, flip: bool) -> None:
        side = train.images.shape[2:]
        steps: list[v2.Transform] = [v2.RandomCrop(side, crop_padding)] if crop_padding else []
        steps += [v2.RandomHorizontalFlip()] if flip else []
        images = _Images(train, v2.Compose([*steps, rand_augment()]), seed)
        self._loader = ExampleLoader(images, device, workers=None if device.type == "cuda" else 0)

    def batches(self, epoch: int, order: list[int], batch_size: int) -> Iterator[Tensor]:
        """The views of the images at the positions ``order``, uint8 [B, H, W, 3] each, on the device."""
        for made in self._loader.batches([Request(position, epoch) for position in order], batch_size):
            yield made.views[:, 0].permute(0, 2, 3, 1).contiguous()


class _Images(Dataset[Example]):
    """Augments one image."""

    def __init__(self, train: ImageSet, transform: v2.Transform, seed: int) -> None:
        self._train, self._transform, self._seed = train, transform, seed

    def __len__(self) -> int:
        return len(self._train)

    def __getitem__(self, request: Request) -> Example:
        position, seed = request.position, derive(self._seed, "stronger", str(request.epoch), request.position)
        pixels = apply_from(seed, self._transform, torch.from_numpy(self._train.images[position]))
        return Example(pixels[None], torch.tensor(int(self._train.labels[position])), torch.tensor(position))
