"""Tiny ImageNet from the folders of its public release; its labelled validation images are the test split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from adm_core.errors import AdmError
from tasks.datasets.images import ImageSet
from tasks.datasets.source import Split, corrupt, is_hidden

SIDE = 64


def read(folder: Path, split: Split) -> ImageSet:
    """Tiny ImageNet: 100,000 training or 10,000 test images of 64x64 in 200 classes, named by WordNet id.

    Decoding the training images takes about half a minute, their pixels 1.2 GB.

    Raises:
        AdmError: an image or a list is damaged.
    """
    names = classes(folder)
    number = {wnid: position for position, wnid in enumerate(names)}
    listed = list(_train(folder, names) if split == "train" else _annotated(folder))
    for file, wnid in listed:
        if wnid not in number:
            raise AdmError(f"{folder}: {file.name} has class '{wnid}', which is not in wnids.txt")
    lacking = sorted(set(names) - {wnid for _, wnid in listed})
    if lacking:
        raise AdmError(f"{folder} holds no {split} images of {len(lacking)} classes, e.g. '{lacking[0]}'")
    images = np.empty((len(listed), SIDE, SIDE, 3), dtype=np.uint8)
    for position, (file, _) in enumerate(listed):
        images[position] = _decode(file)
    labels = np.array([number[wnid] for _, wnid in listed], dtype=np.int64)
    return ImageSet(images.transpose(0, 3, 1, 2), labels, names)


def classes(folder: Path) -> tuple[str, ...]:
    """The WordNet ids that the release lists, sorted."""
    return tuple(sorted((folder / "wnids.txt").read_text(encoding="utf-8").split()))


def _train(folder: Path, names: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    for wnid in names:
        for file in sorted((folder / "train" / wnid / "images").glob("*.JPEG")):
            if not is_hidden(file.name):
                yield file, wnid


def _annotated(folder: Path) -> Iterator[tuple[Path, str]]:
    listing = folder / "val" / "val_annotations.txt"
    for number, line in enumerate(listing.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split("\t")
        if len(fields) < 2:
            raise corrupt(listing, f"line {number} does not hold a file name and a class")
        yield folder / "val" / "images" / fields[0], fields[1]


def _decode(file: Path) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise corrupt(file, str(error)) from error
    if pixels.shape != (SIDE, SIDE, 3):
        raise corrupt(file, f"it is {pixels.shape[1]}x{pixels.shape[0]}, not {SIDE}x{SIDE}")
    return pixels
