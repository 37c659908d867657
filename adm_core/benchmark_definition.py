"""What a suite says about a benchmark of its own, as it reaches the task that opens it. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BenchmarkDefinition:
    """A folder of labelled images, one folder per class in each split.

    Attributes:
        name: the suite's own word for it.
        classes: how many there are.
        image_size: side in pixels of the images that networks see.
        mean: per channel, of pixel values in 0..1.
        std: per channel.
        splits: ``train``, ``test`` and perhaps ``validation``, each to its folder.
        digest: of its files.
    """

    name: str
    classes: int
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    splits: Mapping[str, Path]
    digest: str
