"""Segmentation sets: images with one class per pixel, held in memory or read from pairs of files."""

from __future__ import annotations

import functools
import hashlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adm_core.errors import AdmError
from tasks.datasets.images import Indices, carved
from tasks.datasets.source import corrupt

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]

VOID = 255
"""The label of a pixel that is neither trained on nor scored."""


class SegmentationSet(Protocol):
    """What the segmentation task asks of a data set.

    A label map may be void everywhere: such an image can be read, and has nothing to train on or to score.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; a label is a position in them, or ``VOID``."""

    @property
    def palette(self) -> tuple[Colour, ...]:
        """The colour (red, green, blue in 0..255) in which each class is drawn."""

    def __len__(self) -> int:
        """The number of images."""

    def read(self, i: int) -> tuple[Pixels, Pixels]:
        """Image ``i`` and its labels: uint8 [H, W, 3] RGB in 0..255 and uint8 [H, W]."""

    def name(self, i: int) -> str:
        """What messages call image ``i``."""

    def limit(self, n: int) -> Self:
        """At most ``n`` images, evenly spread over the set, order kept; always the same ones."""

    def carve(self, size: float, seed: int = 0) -> tuple[Self, Self]:
        """Split into (train, validation) at random, order kept; a share if a float, a number of images if an int."""

    def digest(self) -> str:
        """sha256 (hex) of the content; of files that are not read through, of their names and sizes."""


class _Selectable(ABC):
    """``limit`` and ``carve`` for sets that can take the examples at given positions."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of images."""

    @abstractmethod
    def take(self, index: Indices) -> Self:
        """The examples at the positions ``index`` [M], in that order."""

    def limit(self, n: int) -> Self:
        """At most ``n`` images, evenly spread over the set, order kept; always the same ones.

        Raises:
            AdmError: ``n`` is not positive.
        """
        if n <= 0:
            raise AdmError(f"a segmentation set can be limited to 1 image or more, not to {n}")
        if n >= len(self):
            return self
        return self.take(np.arange(n) * len(self) // n)

    def carve(self, size: float, seed: int = 0) -> tuple[Self, Self]:
        """Split into (train, validation) at random, order kept.

        Args:
            size: what becomes validation: a share in (0, 1) if a float, a number of images if an int.
            seed: which images; equal seeds give equal splits everywhere.

        Raises:
            AdmError: one of the two parts would be empty.
        """
        train, validation = carved(np.zeros(len(self), dtype=np.int64), 1, size, seed)
        return self.take(train), self.take(validation)


@dataclass(frozen=True, eq=False)
class Scenes(_Selectable):
    """A segmentation set in memory; checked when made.

    Attributes:
        images: uint8 [N, H, W, 3], RGB, 0..255.
        labels: uint8 [N, H, W], positions in ``classes``, or ``VOID``.
        classes: the class names.
        palette: the colour in which each class is drawn.
        names: what messages call each image.

    Raises:
        AdmError: a type, a shape, a number of entries or a label is not as above.
    """

    images: Pixels
    labels: Pixels
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = self.images.shape
        if self.images.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3:
            raise AdmError(f"scenes: images must be uint8 [N, H, W, 3], not {self.images.dtype} {list(shape)}")
        if self.labels.dtype != np.uint8 or self.labels.shape != shape[:3]:
            found = f"{self.labels.dtype} {list(self.labels.shape)}"
            raise AdmError(f"scenes: labels must be uint8 {list(shape[:3])}, not {found}")
        if len(self.names) != shape[0]:
            raise AdmError(f"scenes: {shape[0]} images need as many names, not {len(self.names)}")
        _check_classes(self.classes, self.palette)
        wrong = (self.labels >= len(self.classes)) & (self.labels != VOID)
        if wrong.any():
            i, row, column = (int(position) for position in np.argwhere(wrong)[0])
            raise AdmError(
                f"scenes: {self.names[i]} has label {self.labels[i, row, column]} at row {row}, column {column}; "
                f"labels are 0..{len(self.classes) - 1}, or {VOID} for void"
            )

    def __len__(self) -> int:
        return len(self.images)

    def read(self, i: int) -> tuple[Pixels, Pixels]:
        """Image ``i`` and its labels: uint8 [H, W, 3] RGB and uint8 [H, W]; views, not copies."""
        return self.images[i], self.labels[i]

    def name(self, i: int) -> str:
        """What messages call image ``i``."""
        return self.names[i]

    def take(self, index: Indices) -> Self:
        """The examples at the positions ``index`` [M], in that order, copied."""
        names = tuple(self.names[i] for i in index)
        return replace(self, images=self.images[index], labels=self.labels[index], names=names)

    def digest(self) -> str:
        """sha256 (hex) over images, labels and class names, not over colours and image names; taken once."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        found = hashlib.sha256("\0".join(self.classes).encode())
        for part in (self.images, self.labels):
            found.update(f"|{part.dtype.str}{part.shape}|".encode())
            found.update(np.ascontiguousarray(part).data)
        return found.hexdigest()


@dataclass(frozen=True, eq=False)
class SceneFiles(_Selectable):
    """A segmentation set of pairs of files, decoded when read.

    Attributes:
        pairs: image file and label file of each example; a label file has one byte per pixel, its raw id.
        ids: what each raw id stands for: a position in ``classes``, or ``VOID``.
        classes: the class names.
        palette: the colour in which each class is drawn.

    Raises:
        AdmError: a raw id is not a byte or stands for no class, or names and colours differ in number.
    """

    pairs: tuple[tuple[Path, Path], ...]
    ids: Mapping[int, int]
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]

    def __post_init__(self) -> None:
        _check_classes(self.classes, self.palette)
        for raw, label in self.ids.items():
            if not 0 <= raw <= 255 or not (0 <= label < len(self.classes) or label == VOID):
                raise AdmError(
                    f"scene files: raw id {raw} stands for label {label}; raw ids are 0..255, "
                    f"labels 0..{len(self.classes) - 1}, or {VOID} for void"
                )

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, i: int) -> tuple[Pixels, Pixels]:
        """Image ``i`` and its labels: uint8 [H, W, 3] RGB and uint8 [H, W].

        Raises:
            AdmError: a file cannot be decoded, the two differ in size, or the labels hold a raw id that is not
                listed; names the file.
        """
        image_file, label_file = self.pairs[i]
        image, raw = _decode_image(image_file), _decode_labels(label_file)
        if image.shape[:2] != raw.shape:
            raise AdmError(
                f"{image_file} is {_size(image)} and its labels {label_file} are {_size(raw)}; "
                "they must have the same size"
            )
        known, labels = np.zeros(256, dtype=bool), np.zeros(256, dtype=np.uint8)
        known[list(self.ids)], labels[list(self.ids)] = True, list(self.ids.values())
        strange = raw[~known[raw]]
        if strange.size:
            raise AdmError(f"{label_file} holds label id {strange.min()}; known ids are {_ranges(self.ids)}")
        return image, labels[raw]

    def name(self, i: int) -> str:
        """The image file's name."""
        return self.pairs[i][0].name

    def take(self, index: Indices) -> Self:
        """The examples at the positions ``index`` [M], in that order."""
        return replace(self, pairs=tuple(self.pairs[i] for i in index))

    def digest(self) -> str:
        """sha256 (hex) over class names, raw ids, and names and sizes of the files, which are not read; taken once."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        found = hashlib.sha256("\0".join(self.classes).encode())
        found.update("".join(f"|{raw}:{label}" for raw, label in sorted(self.ids.items())).encode())
        for file in itertools.chain.from_iterable(self.pairs):
            found.update(f"\0{file.name}\0{file.stat().st_size}".encode())
        return found.hexdigest()

    def in_memory(self) -> Scenes:
        """The whole set, read at once.

        Raises:
            AdmError: as :meth:`read`; there is no image; or an image differs in size from the first.
        """
        if not self.pairs:
            raise AdmError("scene files: there is no image to read")
        shape = self.read(0)[1].shape
        images, labels = np.empty((len(self), *shape, 3), dtype=np.uint8), np.empty((len(self), *shape), dtype=np.uint8)
        for i, (file, _) in enumerate(self.pairs):
            image, label = self.read(i)
            if label.shape != shape:
                raise AdmError(f"{file} is {_size(image)}, but {self.pairs[0][0]} is {shape[1]}x{shape[0]}")
            images[i], labels[i] = image, label
        names = tuple(self.name(i) for i in range(len(self)))
        return Scenes(images, labels, self.classes, self.palette, names)


def _check_classes(classes: tuple[str, ...], palette: tuple[Colour, ...]) -> None:
    if not 0 < len(classes) <= VOID:
        raise AdmError(f"a segmentation set has 1 to {VOID} classes, not {len(classes)}")
    if len(palette) != len(classes):
        raise AdmError(f"a segmentation set of {len(classes)} classes needs as many colours, not {len(palette)}")


def _decode_image(file: Path) -> Pixels:
    try:
        with Image.open(file) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise corrupt(file, str(error)) from error


def _decode_labels(file: Path) -> Pixels:
    try:
        with Image.open(file) as image:
            mode, raw = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise corrupt(file, str(error)) from error
    if mode not in ("L", "P"):
        raise AdmError(
            f"{file} is a picture in mode {mode}; a label file holds one id per pixel (8-bit grey or palette): "
            "it may show the classes' colours instead of their ids"
        )
    return raw


def _size(pixels: Pixels) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"


def _ranges(ids: Mapping[int, int]) -> str:
    """Whole numbers as text, runs joined: ``0..11, 255``."""
    runs: list[list[int]] = []
    for number in sorted(ids):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}..{last}" for first, last in runs)
