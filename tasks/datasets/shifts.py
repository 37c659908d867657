"""Data sets whose pictures look otherwise, labels as they were."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from adm_core.condition import Shift
from tasks.datasets.class_folders import ImageFiles
from tasks.datasets.corruptions import corrupted
from tasks.datasets.images import ImageSet
from tasks.datasets.scenes import Pixels, SceneFiles, Scenes


def shifted(source: Any, shift: Shift, keep_in: Path | None = None) -> Any:
    """A set of the same kind with every picture under the shift.

    Args:
        source: ``ImageSet`` or ``Scenes``, whose pictures are changed now; ``ImageFiles`` or ``SceneFiles``, whose
            pictures are changed when they are read.
        shift: names, severity and seed.
        keep_in: folder of artefacts, in which pictures that are changed now are kept; None: they are not.
    """
    if isinstance(source, ImageFiles):
        return _ShiftedImageFiles(source.files, source.labels, source.classes, shift)
    if isinstance(source, SceneFiles):
        return _ShiftedSceneFiles(source.pairs, source.ids, source.classes, source.palette, shift)
    if keep_in is None:
        return _changed(source, shift)
    from tasks.datasets.kept import kept  # loads torch

    told = _told(source.digest(), shift)
    return kept(keep_in, f"shifted-{told[:16]}", None, lambda: _changed(source, shift))


def _changed(source: ImageSet | Scenes, shift: Shift) -> ImageSet | Scenes:
    if isinstance(source, Scenes):
        return replace(source, images=np.stack([corrupted(picture, shift) for picture in source.images]))
    pictures = source.images.transpose(0, 2, 3, 1)
    return replace(source, images=np.stack([corrupted(picture, shift).transpose(2, 0, 1) for picture in pictures]))


def _told(digest: str, shift: Shift) -> str:
    return hashlib.sha256(f"{digest} {shift}".encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class _ShiftedImageFiles(ImageFiles):
    shift: Shift

    @functools.cached_property
    def _digest(self) -> str:
        return _told(super()._digest, self.shift)

    def read(self, position: int) -> Any:
        from PIL import Image

        return Image.fromarray(corrupted(np.asarray(super().read(position)), self.shift))


@dataclass(frozen=True, eq=False)
class _ShiftedSceneFiles(SceneFiles):
    shift: Shift

    @functools.cached_property
    def _digest(self) -> str:
        return _told(super()._digest, self.shift)

    def read(self, i: int) -> tuple[Pixels, Pixels]:
        image, labels = super().read(i)
        return corrupted(image, self.shift), labels
