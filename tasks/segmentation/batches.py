"""Batches for training, drawn from a seed, and for evaluation, in order.

Randomness has no state: the order follows from (seed, epoch), and each example's augmentation from (seed, epoch,
position), whichever process makes it. So training that resumes in the middle of an epoch sees the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adm_core.batch import WHOLE, Batch, Share
from adm_core.errors import AdmError
from adm_core.seeds import derive
from tasks.datasets.loading import ExampleLoader, Request
from tasks.datasets.scenes import VOID, SegmentationSet
from tasks.segmentation.data_settings import DataSettings
from tasks.segmentation.pipeline import TrainingExamples, read


class TrainingBatches:
    """Shuffled, augmented training batches; a last, smaller batch is left out.

    Args:
        train: the training images.
        settings: of the protocol.
        batch_size: examples per batch.
        seed: order and augmentation follow from it and the epoch.
        device: where the batches go.
        views: of each crop, as :attr:`adm_core.method.Needs.augmentations` has them; they differ in colour alone.
        workers: processes that make examples. None: none on a CPU, where each core trains a cell of its own; on a GPU
            one per core, at most 8.

    Raises:
        AdmError: the set holds no full batch.
    """

    def __init__(
        self,
        train: SegmentationSet,
        settings: DataSettings,
        batch_size: int,
        seed: int,
        device: torch.device,
        views: int = 1,
        workers: int | None = None,
    ) -> None:
        self.steps_per_epoch = len(train) // batch_size
        if not self.steps_per_epoch:
            raise AdmError(f"batch_size {batch_size} is more than the {len(train)} training images")
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self._count = len(train)
        if workers is None and device.type == "cpu":
            workers = 0
        self._loader = ExampleLoader(TrainingExamples(train, settings, seed, views), device, workers)

    def batches(self, epoch: int, start: int = 0, share: Share = WHOLE) -> Iterator[Batch]:
        """The epoch's batches (counted from 0) from step ``start`` on; skipped images stay unread.

        Inputs are float32 [B, 3, h, w] RGB in 0..255, channels last; targets int64 [B, h, w], 0 where void.

        Args:
            epoch: counted from 0.
            start: first step.
            share: which examples of each batch are wanted; the others stay unread too.

        Raises:
            AdmError: an image or its labels cannot be used; names the file.
        """
        generator = torch.Generator().manual_seed(derive(self.seed, "epoch", epoch))
        order = torch.randperm(self._count, generator=generator).tolist()
        end = self.steps_per_epoch * self.batch_size
        wanted, size = share.cut(order[start * self.batch_size : end], self.batch_size)
        for made in self._loader.batches([Request(position, epoch) for position in wanted], size):
            inputs = [as_input(view) for view in made.views.unbind(1)]
            labels = made.labels
            valid = labels != VOID
            # one and the same tensor where the views are: the loop then feeds both networks from it
            peers = tuple(inputs[2:])
            yield Batch(inputs[0], inputs[:2][-1], labels.long() * valid, made.position, valid, peer_inputs=peers)


class Scored(NamedTuple):
    """Images of one size: float32 [B, 3, H, W] RGB in 0..255, and labels uint8 [B, H, W] (VOID: not scored)."""

    images: Tensor
    labels: Tensor


def evaluation_batches(source: SegmentationSet, batch_size: int, device: torch.device) -> Iterator[Scored]:
    """Whole images in order; a batch ends early where the next image has another size.

    Raises:
        AdmError: an image or its labels cannot be used; names the file.
    """
    kept: list[tuple[Tensor, Tensor]] = []
    for position in range(len(source)):
        image, labels = read(source, position)
        pair = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), torch.from_numpy(np.array(labels))
        if kept and (len(kept) == batch_size or kept[0][1].shape != pair[1].shape):
            yield _scored(kept, device)
            kept = []
        kept.append(pair)
    if kept:
        yield _scored(kept, device)


def as_input(images: Tensor) -> Tensor:
    """uint8 [B, 3, H, W] as the networks' input: float32, channels last."""
    return images.to(torch.float32, memory_format=torch.channels_last)


def _scored(kept: list[tuple[Tensor, Tensor]], device: torch.device) -> Scored:
    images, labels = (torch.stack(part).to(device, non_blocking=True) for part in zip(*kept, strict=True))
    return Scored(as_input(images), labels)
