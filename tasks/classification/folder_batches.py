"""Batches from folders of images too many or too large for memory, decoded by worker processes.

As in memory, randomness has no state: the order follows from (seed, epoch), and each image's augmentation
from (seed, epoch, image, view), whichever worker decodes it. Resuming skips images without opening them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from adm_core.batch import WHOLE, Batch, Share
from adm_core.errors import AdmError
from adm_core.seeds import derive
from tasks.classification.batches import Normalisation, balanced_order, steps_in
from tasks.classification.stronger import apply_from, rand_augment
from tasks.datasets.class_folders import ImageFiles
from tasks.datasets.loading import Example, ExampleLoader, Request

RESIZE_BEFORE_CROP = 256 / 224
"""The shorter side before the centre crop, relative to the crop; 256 to 224 in the literature."""


class FolderBatches:
    """Shuffled, augmented training batches of a folder of images, with the interface of ``InMemoryBatches``.

    Augmentation is torchvision's ``RandomResizedCrop`` and, with ``flip``, ``RandomHorizontalFlip`` (transforms v2).

    Args:
        train: the training images.
        batch_size: examples per batch.
        seed: order and augmentation follow from it, the epoch and the image.
        device: where the batches go.
        mean: per channel, of pixel values in 0..1.
        std: per channel.
        size: side of the images that networks see.
        flip: whether images are mirrored at random.
        views: augmentations of each example, as :attr:`adm_core.method.Needs.augmentations` has them.
        extra_view: whether batches hold a second, stronger augmentation too: RandAugment after the others.
        per_class: examples of each class in a batch; 0: whatever the shuffled order gives.
        drop_last: whether a last, smaller batch is left out; class-balanced batches are all full.
        workers: processes that decode; 0 decodes in this one, None takes one per core, at most 8.

    Raises:
        AdmError: a setting is out of range, or the folder holds no full batch.
    """

    def __init__(
        self,
        train: ImageFiles,
        batch_size: int,
        seed: int,
        device: torch.device | str,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        size: int = 224,
        flip: bool = True,
        views: int = 1,
        extra_view: bool = False,
        per_class: int = 0,
        drop_last: bool = True,
        workers: int | None = None,
    ) -> None:
        if views < 1:
            raise AdmError(f"batches: views must be 1 or more, not {views}")
        self.steps_per_epoch = steps_in(len(train), batch_size, drop_last or per_class > 0)
        self.batch_size, self.seed, self.device, self.views = batch_size, seed, torch.device(device), views
        self._count = len(train)
        self._normalise = Normalisation(mean, std, size, self.device)
        self._balanced = balanced_order(train.labels, batch_size, per_class, seed)
        stronger = training_transform(size, flip, stronger=True) if extra_view else None
        images = _Images(train, training_transform(size, flip), seed, views, stronger)
        self._loader = ExampleLoader(images, self.device, workers)

    def order(self, epoch: int) -> Tensor:
        """Which image stands at each position of the epoch, int64 [N], from the seed and the epoch alone.

        In an epoch of class-balanced batches there are as many positions as the batches have.
        """
        if self._balanced:
            return self._balanced.order(epoch, self.steps_per_epoch)
        generator = torch.Generator().manual_seed(derive(self.seed, "epoch", epoch))
        return torch.randperm(self._count, generator=generator)

    def batches(self, epoch: int, start: int = 0, share: Share = WHOLE) -> Iterator[Batch]:
        """The epoch's batches from step ``start`` on, as in ``InMemoryBatches``; skipped images stay unread.

        Args:
            epoch: counted from 0.
            start: first step.
            share: which examples of each batch are wanted; the others stay unread too.

        Raises:
            AdmError: an image is damaged; names its file.
        """
        end = self.steps_per_epoch * self.batch_size
        wanted, size = share.cut(self.order(epoch)[start * self.batch_size : end].tolist(), self.batch_size)
        for made in self._loader.batches([Request(index, epoch) for index in wanted], size):
            inputs = [self._normalise(_pixels_last(view)) for view in made.views.unbind(1)]
            own, extra = inputs[: self.views], inputs[self.views] if len(inputs) > self.views else None
            peers = tuple(own[2:])
            yield Batch(own[0], own[:2][-1], made.labels, made.position, extra_input=extra, peer_inputs=peers)


def folder_evaluation_batches(
    folder: ImageFiles,
    batch_size: int,
    device: torch.device | str,
    mean: Sequence[float],
    std: Sequence[float],
    size: int = 224,
    workers: int | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Centre crops and their labels, in order, the last partial batch included.

    Yields (float32 [B, 3, S, S] normalised, int64 [B]), both on the device.

    Args:
        folder: the images.
        batch_size: examples per batch.
        device: where the batches go.
        mean: per channel, of pixel values in 0..1.
        std: per channel.
        size: side of the images that networks see.
        workers: processes that decode; 0 decodes in this one, None takes one per core, at most 8.

    Raises:
        AdmError: an image is damaged; names its file.
    """
    device = torch.device(device)
    normalise = Normalisation(mean, std, size, device)
    loader = ExampleLoader(_Images(folder, evaluation_transform(size), seed=0, views=1), device, workers)
    every = [Request(index, None) for index in range(len(folder))]
    for made in loader.batches(every, batch_size):
        yield normalise(_pixels_last(made.views[:, 0])), made.labels


def training_transform(size: int, flip: bool, stronger: bool = False) -> v2.Transform:
    """A random part of the image, resized to ``size``, perhaps mirrored half of the time: PIL to uint8 [3, S, S].

    Args:
        size: side of the result.
        flip: whether it is mirrored.
        stronger: whether RandAugment follows.
    """
    own = [v2.RandomResizedCrop(size), *([v2.RandomHorizontalFlip()] if flip else [])]
    return v2.Compose([*own, *([rand_augment()] if stronger else []), v2.PILToTensor()])


def evaluation_transform(size: int) -> v2.Transform:
    """The centre of the image after resizing its shorter side: PIL to uint8 [3, S, S]."""
    return v2.Compose([v2.Resize(round(size * RESIZE_BEFORE_CROP)), v2.CenterCrop(size), v2.PILToTensor()])


class _Images(Dataset[Example | str]):
    """Decodes one image; a damaged one becomes its error's text, which crosses process borders unharmed."""

    def __init__(
        self, folder: ImageFiles, transform: v2.Transform, seed: int, views: int, stronger: v2.Transform | None = None
    ) -> None:
        self._folder, self._transform, self._seed, self._views = folder, transform, seed, views
        self._stronger = stronger

    def __len__(self) -> int:
        return len(self._folder)

    def __getitem__(self, request: Request) -> Example | str:
        try:
            image = self._folder.read(request.position)
        except AdmError as error:
            return str(error)
        views = [self._view(image, request, view) for view in range(self._views)]
        if self._stronger:
            own = derive(self._seed, "stronger", str(request.epoch), request.position)
            views.append(apply_from(own, self._stronger, image))
        label = torch.tensor(int(self._folder.labels[request.position]))
        return Example(torch.stack(views), label, torch.tensor(request.position))

    def _view(self, image: object, request: Request, view: int) -> Tensor:
        if request.epoch is None:  # evaluation draws nothing
            pixels: Tensor = self._transform(image)
            return pixels
        return apply_from(derive(self._seed, "image", request.epoch, request.position, view), self._transform, image)


def _pixels_last(images: Tensor) -> Tensor:
    """uint8 [B, 3, S, S] as [B, S, S, 3]."""
    return images.permute(0, 2, 3, 1).contiguous()
