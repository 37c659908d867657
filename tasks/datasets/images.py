"""Labelled image sets, such as fit in memory, and the splits and subsets cut from it."""

from __future__ import annotations

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from adm_core.errors import AdmError

Indices = NDArray[np.int64]


class LabelledSet(ABC):
    """``carve`` and ``limit`` for sets of examples with one class each.

    Attributes:
        labels: int64 [N], positions in ``classes``.
        classes: the class names.
    """

    labels: Indices
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def take(self, index: Indices) -> Self:
        """The examples at the positions ``index`` [M], in that order."""

    def carve(self, size: float, seed: int = 0) -> tuple[Self, Self]:
        """Split into (train, validation), every class in the same proportion, order kept.

        Args:
            size: what becomes validation: a share in (0, 1) if a float, a number of images if an int.
            seed: which images; equal seeds give equal splits everywhere.

        Raises:
            AdmError: one of the two parts would be empty.
        """
        train, validation = carved(self.labels, len(self.classes), size, seed)
        return self.take(train), self.take(validation)

    def limit(self, n: int) -> Self:
        """At most ``n`` examples, every class in the same proportion, order kept; always the same ones.

        Raises:
            AdmError: ``n`` is not positive.
        """
        if n <= 0:
            raise AdmError(f"an image set can be limited to 1 image or more, not to {n}")
        if n >= len(self):
            return self
        return self.take(balanced_choice(self.labels, len(self.classes), n, seed=0))


@dataclass(frozen=True, eq=False)
class ImageSet(LabelledSet):
    """Images with one class each; checked when made.

    Attributes:
        images: uint8 [N, C, H, W], 0..255; C is 3 (RGB) or 1 (grey).
        labels: int64 [N], positions in ``classes``.
        classes: the class names.
        masks: uint8 [N, H, W], 1 where the foreground is and 0 elsewhere; None where no mask is known.

    Raises:
        AdmError: a type, a shape, a label or a mask value is not as above.
    """

    images: NDArray[np.uint8]
    labels: Indices
    classes: tuple[str, ...]
    masks: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        shape = self.images.shape
        if self.images.dtype != np.uint8 or len(shape) != 4 or shape[1] not in (1, 3):
            found = f"{self.images.dtype} {list(shape)}"
            raise AdmError(f"image set: images must be uint8 [N, C, H, W] with 1 or 3 channels, not {found}")
        if self.labels.dtype != np.int64 or self.labels.shape != shape[:1]:
            raise AdmError(
                f"image set: labels must be int64 [{shape[0]}], not {self.labels.dtype} {list(self.labels.shape)}"
            )
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise AdmError(
                f"image set: labels must lie in 0..{len(self.classes) - 1}, "
                f"not {self.labels.min()}..{self.labels.max()}"
            )
        if self.masks is not None:
            self._check_masks(self.masks)

    def _check_masks(self, masks: NDArray[np.uint8]) -> None:
        expected = (self.images.shape[0], *self.images.shape[2:])
        if masks.dtype != np.uint8 or masks.shape != expected:
            raise AdmError(f"image set: masks must be uint8 {list(expected)}, not {masks.dtype} {list(masks.shape)}")
        if masks.size and masks.max() > 1:
            raise AdmError(f"image set: masks must hold 0 and 1 only, not {masks.max()}")

    def digest(self) -> str:
        """sha256 (hex) over images, labels, class names and masks: equal for equal content only; taken once."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        parts: list[NDArray[Any]] = [self.images, self.labels, *([] if self.masks is None else [self.masks])]
        found = hashlib.sha256("\0".join(self.classes).encode())
        for part in parts:
            found.update(f"|{part.dtype.str}{part.shape}|".encode())
            found.update(np.ascontiguousarray(part).data)
        return found.hexdigest()

    def take(self, index: Indices) -> Self:
        """The examples at the positions ``index`` [M], in that order, copied."""
        masks = None if self.masks is None else self.masks[index]
        return type(self)(self.images[index], self.labels[index], self.classes, masks)


def uniform(seed: Sequence[int], count: int) -> NDArray[np.float64]:
    """``count`` uniform draws in [0, 1) that are the same under every version of numpy.

    They are made from the raw stream of PCG64, which numpy promises never to change; it promises no such
    thing of ``Generator``'s methods.
    """
    raw = np.random.PCG64(np.random.SeedSequence(list(seed))).random_raw(count)
    return (np.asarray(raw, dtype=np.uint64) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def carved(labels: Indices, classes: int, size: float, seed: int) -> tuple[Indices, Indices]:
    """Positions of (train, validation) in ascending order, every class in the same proportion.

    Args:
        labels: int64 [N], the class of each example.
        classes: number of classes.
        size: what becomes validation: a share in (0, 1) if a float, a number of examples if an int.
        seed: which examples.

    Raises:
        AdmError: one of the two parts would be empty.
    """
    total = len(labels)
    count = size if isinstance(size, int) else round(total * size)
    if not 0 < count < total:
        raise AdmError(
            f"carving a validation split: {size} of {total} images is {count}; "
            f"it must be at least 1 and at most {total - 1}"
        )
    chosen = balanced_choice(labels, classes, count, seed)
    return np.setdiff1d(np.arange(total), chosen), chosen


def balanced_choice(labels: Indices, classes: int, size: int, seed: int) -> Indices:
    """``size`` positions in ascending order, drawn so that classes keep their proportions.

    Each class gives its rounded-down share; what then lacks goes to the largest remainders, the lower class
    first.

    Args:
        labels: int64 [N], the class of each example.
        classes: number of classes.
        size: how many to choose, at most N.
        seed: which examples of a class are chosen.
    """
    counts = np.bincount(labels, minlength=classes).astype(np.int64)
    shares, remainders = np.divmod(counts * size, len(labels))
    lacking = size - int(shares.sum())
    shares[np.argsort(-remainders, kind="stable")[:lacking]] += 1
    keys = uniform((seed, len(labels)), len(labels))
    order = np.lexsort((keys, labels))
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    chosen = [order[start : start + share] for start, share in zip(starts, shares, strict=True)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)
