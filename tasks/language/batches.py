"""Training batches of windows, drawn from a seed, and windows in order for evaluation.

Randomness has no state: the order follows from (seed, epoch). So training that resumes in the middle of an epoch sees
the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from adm_core.batch import Batch
from adm_core.errors import AdmError
from adm_core.seeds import derive
from tasks.datasets.text import TextSet


class TrainingBatches:
    """Shuffled windows; a last, smaller batch is left out.

    Args:
        train: the training text.
        batch_size: windows per batch.
        seed: the order follows from it and the epoch.
        device: where windows are kept and batches are made.

    Raises:
        AdmError: the text holds no full batch.
    """

    def __init__(self, train: TextSet, batch_size: int, seed: int, device: torch.device) -> None:
        self.steps_per_epoch = len(train) // batch_size
        if not self.steps_per_epoch:
            raise AdmError(f"batch_size {batch_size} is more than the {len(train)} training windows")
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self._windows = torch.from_numpy(train.windows).to(device)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The epoch's batches (counted from 0) from step ``start`` on; see :func:`as_pair`."""
        generator = torch.Generator().manual_seed(derive(self.seed, "epoch", epoch))
        order = torch.randperm(len(self._windows), generator=generator)
        for step in range(start, self.steps_per_epoch):
            index = order[step * self.batch_size : (step + 1) * self.batch_size].to(self.device)
            characters, following = as_pair(self._windows[index])
            yield Batch(characters, characters, following, index)


def evaluation_batches(text: TextSet, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """All windows in order, as :func:`as_pair` has them."""
    for part in torch.from_numpy(text.windows).split(batch_size):
        yield as_pair(part.to(device))


def as_pair(windows: Tensor) -> tuple[Tensor, Tensor]:
    """Windows uint8 [B, T + 1] as input int64 [B, 1, 1, T] and, a character later, target int64 [B, 1, T]."""
    characters = windows.long()
    return characters[:, None, None, :-1], characters[:, None, 1:]
