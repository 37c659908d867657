"""Labelled images as files in one folder per class, decoded when read. Listing them loads neither torch nor pixels."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from adm_core.errors import AdmError
from tasks.datasets.images import Indices, LabelledSet
from tasks.datasets.source import corrupt, is_hidden

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What torchvision's ``ImageFolder`` takes for an image, in lower case."""


@dataclass(frozen=True, eq=False)
class ImageFiles(LabelledSet):
    """Image files with one class each.

    Attributes:
        files: their paths.
        labels: int64 [N], positions in ``classes``.
        classes: the class names.
    """

    files: tuple[str, ...]
    labels: Indices
    classes: tuple[str, ...]

    def take(self, index: Indices) -> Self:
        """The examples at the positions ``index`` [M], in that order."""
        return replace(self, files=tuple(self.files[i] for i in index), labels=self.labels[index])

    def digest(self) -> str:
        """sha256 (hex) over class names, and class, name and size of every file, none of which is read; taken once."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        found = hashlib.sha256("\0".join(self.classes).encode())
        for file, label in zip(self.files, self.labels, strict=True):
            found.update(f"\0{label}/{os.path.basename(file)}\0{os.path.getsize(file)}".encode())
        return found.hexdigest()

    def read(self, position: int) -> Any:
        """One image, decoded by Pillow to RGB.

        Raises:
            AdmError: the file is damaged; names it.
        """
        from PIL import Image

        file = self.files[position]
        try:
            with Image.open(file) as image:
                return image.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise corrupt(file, str(error)) from error


def class_names(folder: Path) -> tuple[str, ...]:
    """The names of the class folders in a folder, sorted; hidden ones are left out.

    Raises:
        AdmError: there is no such folder, or it holds none.
    """
    if not folder.is_dir():
        raise AdmError(f"{folder}: no such folder; it should hold a folder of images for each class")
    names = tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name)))
    if not names:
        raise AdmError(f"{folder} holds no folders; it should hold one of images for each class")
    return names


def list_images(folder: Path) -> ImageFiles:
    """The images of a folder of class folders, in the order of their paths, as torchvision's ``ImageFolder`` has them.

    Hidden entries, such as ``.ipynb_checkpoints`` or macOS's ``._name.JPEG``, are left out at every depth.

    Raises:
        AdmError: there is no such folder, or a class has no image; names it.
    """
    classes, files, counts = class_names(folder), list[str](), list[int]()
    for name in classes:
        found = _images_below(folder / name)
        if not found:
            raise AdmError(f"{folder / name} holds no image ({', '.join(ENDINGS)}); fill it, or remove it")
        files += found
        counts.append(len(found))
    return ImageFiles(tuple(files), np.repeat(np.arange(len(classes), dtype=np.int64), counts), classes)


def check_same_classes(one: Path, other: Path) -> None:
    """Stop where two splits have different class folders, so that their labels would not be the same.

    Raises:
        AdmError: names the first that differ.
    """
    differing = sorted(set(class_names(one)).symmetric_difference(class_names(other)))
    if differing:
        first = ", ".join(f"'{name}'" for name in differing[:3])
        raise AdmError(f"{one} and {other} have different classes: {len(differing)} are in one alone, e.g. {first}")


def _images_below(folder: Path) -> list[str]:
    found: list[str] = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not is_hidden(name)]
        found += [os.path.join(place, name) for name in names if name.lower().endswith(ENDINGS) and not is_hidden(name)]
    return sorted(found, key=lambda file: os.path.split(file))
