"""Examples made one by one, by worker processes that outlive epochs, and handed over as batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from adm_core.batch import Batch
from adm_core.cpu import cores
from adm_core.errors import AdmError

MOST_WORKERS = 8


def with_unlabelled(labelled: Iterator[Batch], unlabelled: Iterator[Batch]) -> Iterator[Batch]:
    """Batches that also hold the pictures of others, whose labels are left behind."""
    for batch, other in zip(labelled, unlabelled, strict=True):
        yield replace(batch, unlabelled_input=other.student_input)


class Request(NamedTuple):
    """One example to make: its position in the set, and the epoch, None for evaluation."""

    position: int
    epoch: int | None


class Example(NamedTuple):
    """Views uint8 [V, 3, h, w] RGB, labels of any shape, position int64 []; in a batch all have B in front."""

    views: Tensor
    labels: Tensor
    position: Tensor


class ExampleLoader:
    """Batches of what a data set makes of requests; requests are told anew for every pass.

    Args:
        examples: its item for a :class:`Request` is an :class:`Example`, or the text of an error, which crosses the
            borders of processes unharmed.
        device: where the batches go.
        workers: processes that make examples; 0 makes them in this one, None takes one per core, at most 8.
    """

    def __init__(self, examples: Dataset[Example | str], device: torch.device, workers: int | None = None) -> None:
        if workers is None:
            workers = min(cores(), MOST_WORKERS)
        self._device, self._sampler = device, _Told()
        self._loader = DataLoader(
            examples,
            batch_sampler=self._sampler,
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # each pass draws from it; the global one must not move
        )

    def batches(self, requests: Sequence[Request], batch_size: int) -> Iterator[Example]:
        """The requested examples in order, the last partial batch included, on the device.

        Raises:
            AdmError: an example cannot be made; the data set's own text.
        """
        self._sampler.batches = [list(requests[i : i + batch_size]) for i in range(0, len(requests), batch_size)]
        for made in self._loader:
            if isinstance(made, str):
                raise AdmError(made)
            yield Example(*(part.to(self._device, non_blocking=True) for part in made))


class _Told(Sampler[list[Request]]):
    """The batches of the pass that begins next."""

    def __init__(self) -> None:
        self.batches: list[list[Request]] = []

    def __iter__(self) -> Iterator[list[Request]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def _collate(items: list[Example | str]) -> Example | str:
    made: list[Example] = []
    for item in items:
        if isinstance(item, str):
            return item
        made.append(item)
    return Example(*(torch.stack(part) for part in zip(*made, strict=True)))
