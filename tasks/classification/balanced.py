"""Batches with the same number of examples of each of their classes."""

from __future__ import annotations

import torch
from torch import Tensor

from adm_core.errors import AdmError
from adm_core.seeds import derive


class BalancedOrder:
    """Draws the examples of class-balanced batches, every one from (seed, epoch, step) alone.

    A batch has ``batch_size / per_class`` different classes, each equally likely, and ``per_class`` different
    examples of each, which stand side by side. So an epoch may show an example twice and another one not at all.

    Args:
        labels: class of each training example, int64 [N], on the CPU.
        batch_size: examples per batch.
        per_class: examples of each class, at least 1.
        seed: of the batches.

    Raises:
        AdmError: the batch size is no multiple, there are fewer classes, or a class has fewer examples.
    """

    def __init__(self, labels: Tensor, batch_size: int, per_class: int, seed: int) -> None:
        self.batch_size, self.per_class, self.seed = batch_size, per_class, seed
        classes, counts = labels.unique(return_counts=True)
        wanted = f"batches of {per_class} examples per class"
        if batch_size % per_class:
            raise AdmError(f"{wanted} need a batch_size that is a multiple of {per_class}, not {batch_size}")
        if batch_size // per_class > len(classes):
            raise AdmError(
                f"{wanted} and batch_size {batch_size} need {batch_size // per_class} classes, there are "
                f"{len(classes)}; take a batch_size of at most {per_class * len(classes)}, or more examples per class"
            )
        if int(counts.min()) < per_class:
            fewest = int(counts.argmin())
            raise AdmError(
                f"{wanted}: of class {int(classes[fewest])} there are only {int(counts[fewest])} to train on"
            )
        self._by_class, self._counts = labels.argsort(stable=True), counts
        self._first = counts.cumsum(0) - counts

    def order(self, epoch: int, steps: int) -> Tensor:
        """The examples of an epoch's batches one after the other, int64 [steps · batch_size]."""
        return torch.cat([self._batch(epoch, step) for step in range(steps)])

    def _batch(self, epoch: int, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive(self.seed, "balanced", epoch, step))
        chosen = torch.randperm(len(self._counts), generator=generator)[: self.batch_size // self.per_class]
        counts = self._counts[chosen, None]
        keys = torch.rand(len(chosen), int(counts.max()), generator=generator)
        keys.masked_fill_(torch.arange(keys.shape[1]) >= counts, -1.0)  # places that a smaller class does not have
        return self._by_class[self._first[chosen, None] + keys.topk(self.per_class).indices].flatten()
