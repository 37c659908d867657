"""Training batches of noisy images, drawn from a seed, from an image set that lies in memory on the training device.

Randomness has no state: order, mirroring and timesteps follow from (seed, epoch), noise from (seed, epoch, step). So
training that resumes in the middle of an epoch sees the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from adm_core.batch import Batch, noisy_batch
from adm_core.errors import AdmError
from adm_core.noising import NoiseProcess, Noising
from adm_core.seeds import derive


class NoisyBatches:
    """Shuffled images under noise of random timesteps, uniform over the schedule; a last, smaller batch is left out.

    Args:
        images: float32 [N, C, H, W] in [-1, 1].
        labels: int64 [N], what the networks are told of each image; None: nothing.
        process: the noise schedule.
        batch_size: examples per batch.
        seed: everything drawn follows from it.
        device: where images are kept and batches are made.
        flip: whether images are mirrored at random.
        classifier: for methods that look at images through one; see :class:`adm_core.noising.Noising`.
        null_label: the label that means no class; None: there is none.
        label_dropout: share of the images that are given it.

    Raises:
        AdmError: the set holds no full batch.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None,
        process: NoiseProcess,
        batch_size: int,
        seed: int,
        device: torch.device,
        flip: bool = False,
        classifier: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
        null_label: int | None = None,
        label_dropout: float = 0.0,
    ) -> None:
        self.steps_per_epoch = len(images) // batch_size
        if not self.steps_per_epoch:
            raise AdmError(f"batch_size {batch_size} is more than the {len(images)} training images")
        self.batch_size, self.seed, self.device, self.flip = batch_size, seed, device, flip
        self._images = images.to(device)
        self._labels = None if labels is None else labels.to(device)
        self._process, self._classifier = process, classifier
        self._null_label, self._label_dropout = null_label, label_dropout

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The epoch's batches (counted from 0) from step ``start`` on, the same ones wherever the reading starts."""
        count, drawn = len(self._images), torch.Generator().manual_seed(derive(self.seed, "epoch", epoch))
        order = torch.randperm(count, generator=drawn).to(self.device)
        timesteps = torch.randint(len(self._process), (count,), generator=drawn).to(self.device)
        mirrored = (torch.rand(count, generator=drawn) < 0.5 * self.flip).to(self.device)
        dropped = (torch.rand(count, generator=drawn) < self._label_dropout).to(self.device)
        generator = torch.Generator(self.device)
        for step in range(start, self.steps_per_epoch):
            part = slice(step * self.batch_size, (step + 1) * self.batch_size)
            index = order[part]
            clean = self._images[index]
            if self.flip:
                clean = clean.flip(3).where(mirrored[part].view(-1, 1, 1, 1), clean)
            generator.manual_seed(derive(self.seed, "noise", epoch, step))
            noise = torch.randn(clean.shape, generator=generator, device=self.device)
            label = None if self._labels is None else self._labels[index]
            if label is not None and self._null_label is not None:
                label = label.masked_fill(dropped[part], self._null_label)
            noising = Noising(self._process, clean, noise, timesteps[part], label, self._classifier, self._null_label)
            yield noisy_batch(noising, index)
