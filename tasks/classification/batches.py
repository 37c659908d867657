"""Training and evaluation batches from an image set that lies in memory, on the training device.

Images stay uint8 until a batch needs them. A batch is cropped and flipped by one gather of pixels, then
normalised in place, so that a training step spends its time on networks. Randomness has no state: order and
augmentation follow from (seed, epoch) alone, so training that resumes in the middle of an epoch sees the same
batches and checkpoints hold no generator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adm_core.batch import WHOLE, Batch, Share
from adm_core.errors import AdmError
from adm_core.seeds import derive
from tasks.classification.balanced import BalancedOrder
from tasks.datasets.images import ImageSet

if TYPE_CHECKING:
    from tasks.classification.stronger import StrongerViews


class EpochPlan(NamedTuple):
    """All that is random in one epoch, on the training device.

    Attributes:
        order: int64 [N], which example stands at each position of the epoch; in an epoch of class-balanced batches
            there are as many positions as the batches have.
        top: int64 [views, N], row of the crop in the padded image, at each position.
        left: int64 [views, N], column of the crop.
        mirrored: bool [views, N], whether the crop is flipped left to right.
    """

    order: Tensor
    top: Tensor
    left: Tensor
    mirrored: Tensor


class InMemoryBatches:
    """Shuffled, augmented training batches of an in-memory image set.

    Augmentation is torchvision's ``RandomCrop(size, padding)`` and ``RandomHorizontalFlip`` in distribution:
    black padding before normalisation, every offset equally likely, flips with probability one half.

    Args:
        train: the training images.
        batch_size: examples per batch.
        seed: order and augmentation follow from it and the epoch.
        device: where the images are kept and the batches are made.
        mean: per channel, of pixel values in 0..1; subtracted.
        std: per channel; divided by.
        crop_padding: pixels of padding on each side; 0 for no cropping.
        flip: whether images are mirrored at random.
        views: augmentations of each example, as :attr:`adm_core.method.Needs.augmentations` has them.
        extra_view: whether batches hold a second, stronger augmentation too; loads torchvision.
        per_class: examples of each class in a batch; 0: whatever the shuffled order gives.
        drop_last: whether a last, smaller batch is left out; class-balanced batches are all full.

    Raises:
        AdmError: a setting is out of range, or the set holds no full batch.
    """

    def __init__(
        self,
        train: ImageSet,
        batch_size: int,
        seed: int,
        device: torch.device | str,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        crop_padding: int = 0,
        flip: bool = False,
        views: int = 1,
        extra_view: bool = False,
        per_class: int = 0,
        drop_last: bool = True,
    ) -> None:
        if views < 1:
            raise AdmError(f"batches: views must be 1 or more, not {views}")
        if crop_padding < 0:
            raise AdmError(f"batches: crop_padding must be 0 or more, not {crop_padding}")
        self.steps_per_epoch = steps_in(len(train), batch_size, drop_last or per_class > 0)
        self.batch_size, self.seed, self.device = batch_size, seed, torch.device(device)
        self.crop_padding, self.flip, self.views = crop_padding, flip, views
        self._pixels = _to_rows(train, self.device)
        self._labels = torch.from_numpy(np.ascontiguousarray(train.labels)).to(self.device)
        self._normalise = Normalisation(mean, std, self._pixels.shape[2], self.device)
        self._balanced = balanced_order(train.labels, batch_size, per_class, seed)
        self._stronger = self._stronger_views(train) if extra_view else None

    def _stronger_views(self, train: ImageSet) -> StrongerViews:
        from tasks.classification.stronger import StrongerViews  # torchvision, which takes seconds to import

        return StrongerViews(train, self.seed, self.device, self.crop_padding, self.flip)

    def plan(self, epoch: int) -> EpochPlan:
        """Order and augmentation of one epoch, from the seed and the epoch alone; equal on every device."""
        generator = torch.Generator().manual_seed(derive(self.seed, "epoch", epoch))
        if self._balanced:
            order = self._balanced.order(epoch, self.steps_per_epoch)
        else:
            order = torch.randperm(len(self._labels), generator=generator)
        n = len(order)
        offsets, mirrored = [], []
        for _ in range(self.views):
            offsets.append(torch.randint(0, 2 * self.crop_padding + 1, (2, n), generator=generator))
            mirrored.append((torch.randint(0, 2, (n,), generator=generator) * self.flip).bool())
        top, left = torch.stack(offsets, dim=1)
        moved = (part.to(self.device) for part in (order, top, left, torch.stack(mirrored)))
        return EpochPlan(*moved)

    def batches(self, epoch: int, start: int = 0, share: Share = WHOLE) -> Iterator[Batch]:
        """The epoch's batches from step ``start`` on; each step's is the same wherever the reading starts.

        Inputs are float32 [B, 3, H, W], normalised, in channels-last memory. With one view both inputs are
        one tensor.

        Args:
            epoch: counted from 0.
            start: first step.
            share: which examples of each batch are wanted.
        """
        plan = self.plan(epoch)
        stronger = self._stronger_of(plan, epoch, start) if self._stronger else None
        for step in range(start, self.steps_per_epoch):
            part = slice(step * self.batch_size, (step + 1) * self.batch_size)
            index = plan.order[part]
            rows = self._pixels.index_select(0, index)
            inputs = [self._augment(rows, plan, view, part) for view in range(self.views)]
            extra, labels = self._normalise(next(stronger)) if stronger else None, self._labels.index_select(0, index)
            peers = tuple(inputs[2:])
            yield share.of(Batch(inputs[0], inputs[:2][-1], labels, index, extra_input=extra, peer_inputs=peers))

    def _stronger_of(self, plan: EpochPlan, epoch: int, start: int) -> Iterator[Tensor]:
        """The stronger views of the batches from step ``start`` on, before normalisation."""
        end = self.steps_per_epoch * self.batch_size
        wanted = plan.order[start * self.batch_size : end].tolist()
        return self._stronger.batches(epoch, wanted, self.batch_size)  # type: ignore[union-attr]

    def _augment(self, rows: Tensor, plan: EpochPlan, view: int, part: slice) -> Tensor:
        if self.crop_padding or self.flip:
            top, left, mirrored = plan.top[view, part], plan.left[view, part], plan.mirrored[view, part]
            rows = crop_and_flip(rows, self.crop_padding, top, left, mirrored)
        return self._normalise(rows)


class Normalisation:
    """Turns uint8 pixels [B, H, W, 3] into normalised float32 [B, 3, H, W] in channels-last memory.

    Args:
        mean: per channel, of pixel values in 0..1.
        std: per channel.
        width: of the images; one long row of factors is faster on a CPU than three broadcast ones.
        device: where the pixels are.

    Raises:
        AdmError: not three values each, or a standard deviation that is not positive.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], width: int, device: torch.device) -> None:
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise AdmError(f"normalisation needs 3 means and 3 positive deviations, not {mean} and {std}")
        mean_, std_ = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        self._scale = (1 / (255 * std_)).float().repeat(width).to(device)
        self._shift = (-mean_ / std_).float().repeat(width).to(device)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalise ``pixels``, uint8 [B, H, W, 3]; they are left as they are."""
        values = pixels.reshape(*pixels.shape[:2], -1).to(torch.float32).mul_(self._scale).add_(self._shift)
        return values.view(pixels.shape).permute(0, 3, 1, 2)


def crop_and_flip(rows: Tensor, padding: int, top: Tensor, left: Tensor, mirrored: Tensor) -> Tensor:
    """Cut a window of the same size out of each padded image, some of them mirrored, by one gather of pixels.

    Args:
        rows: uint8 [B, H, W, 3].
        padding: black pixels added on each side.
        top: int64 [B], first row of each window in the padded image, 0..2·padding.
        left: int64 [B], first column.
        mirrored: bool [B], which windows to flip left to right.
    """
    count, height, width, _ = rows.shape
    padded = F.pad(rows, (0, 0, padding, padding, padding, padding)) if padding else rows
    full_height, full_width = padded.shape[1:3]
    across = torch.arange(width, device=rows.device)
    across = torch.where(mirrored[:, None], width - 1 - across, across) + left[:, None]
    down = torch.arange(height, device=rows.device) + top[:, None]
    down = (down + torch.arange(count, device=rows.device)[:, None] * full_height) * full_width
    pixel = (down[:, :, None] + across[:, None, :]).view(-1)
    return padded.view(-1, 3).index_select(0, pixel).view(rows.shape)


def evaluation_batches(
    image_set: ImageSet,
    batch_size: int,
    device: torch.device | str,
    mean: Sequence[float],
    std: Sequence[float],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images without augmentation and their labels, in order, the last partial batch included.

    Yields (float32 [B, 3, H, W] normalised, int64 [B]), both on the device.

    Args:
        image_set: the images.
        batch_size: examples per batch.
        device: where the batches are made.
        mean: per channel, of pixel values in 0..1.
        std: per channel.
    """
    device = torch.device(device)
    normalise = Normalisation(mean, std, image_set.images.shape[3], device)
    pixels = _to_rows(image_set, device)
    labels = torch.from_numpy(np.ascontiguousarray(image_set.labels)).to(device)
    for start in range(0, len(image_set), batch_size):
        part = slice(start, start + batch_size)
        yield normalise(pixels[part]), labels[part]


def balanced_order(
    labels: Sequence[int] | np.ndarray, batch_size: int, per_class: int, seed: int
) -> BalancedOrder | None:
    """What draws class-balanced batches; None where ``per_class`` is 0.

    Raises:
        AdmError: there can be no such batches.
    """
    return BalancedOrder(torch.as_tensor(labels).long(), batch_size, per_class, seed) if per_class else None


def steps_in(examples: int, batch_size: int, drop_last: bool) -> int:
    """Batches in one pass over ``examples``.

    Raises:
        AdmError: the batch size is not positive, or there is no batch.
    """
    if batch_size <= 0:
        raise AdmError(f"batches: batch_size must be 1 or more, not {batch_size}")
    steps = examples // batch_size if drop_last else -(-examples // batch_size)
    if not steps:
        raise AdmError(f"batches: batch_size {batch_size} is larger than the {examples} training images")
    return steps


def _to_rows(image_set: ImageSet, device: torch.device) -> Tensor:
    """Pixels as uint8 [N, H, W, 3] on the device, so that the three bytes of a pixel lie together."""
    rows = np.ascontiguousarray(image_set.images.transpose(0, 2, 3, 1))
    return torch.from_numpy(rows).to(device)
