"""What generated images are compared with: the real ones, and features of them, computed once and kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from tasks import artefacts
from tasks.diffusion.distances import nearest
from tasks.diffusion.extractor import Extractor


@dataclass(frozen=True)
class RealImages:
    """The benchmark's own images, float32 [N, C, S, S] in [-1, 1].

    Attributes:
        train: on which the denoisers were trained; what the made images are compared with.
        held_out: others.
        labels: int64, of the held-out images; None for denoisers without classes.
        classes: how many classes; the made images have them in turns; None for denoisers without classes.
        split: of which the others are; images are made of its own noises.
    """

    train: Tensor
    held_out: Tensor
    labels: Tensor | None = None
    classes: int | None = None
    split: Literal["validation", "test"] = "test"


@dataclass(frozen=True)
class Reference:
    """Of the real images, on the extractor's device.

    Attributes:
        digest: sha256 (hex) of the extractor's weights and all images: scores of equal digests compare.
        features: float32 [N, D], of the training images.
        nearest: float64 [M], the distance of each held-out image to the nearest training image, by pixels.
    """

    digest: str
    features: Tensor
    nearest: Tensor


def reference(train: Tensor, held_out: Tensor, extractor: Extractor, kept_in: Path | None) -> Reference:
    """The reference, read from the folder ``kept_in`` or computed and written there.

    Args:
        train: real images [N, C, H, W] in [-1, 1] that denoisers train on.
        held_out: real images [M, C, H, W] that they do not.
        extractor: of features.
        kept_in: folder of ``DIGEST.safetensors``; None: compute, keep nothing.

    Raises:
        AdmError: the disk refuses.
    """
    digest = artefacts.digest(f"reference 1|{extractor.digest}", (train, held_out))
    path = kept_in / f"{digest}.safetensors" if kept_in else None
    known = artefacts.read(path) if path else None
    if known is not None:
        kept = {name: tensor.to(extractor.device) for name, tensor in known[0].items()}
        return Reference(digest, kept["features"], kept["nearest"])
    distances = nearest(held_out.to(extractor.device), train.to(extractor.device))
    found = Reference(digest, extractor.features(train), distances)
    if path:
        artefacts.write(path, {"features": found.features, "nearest": found.nearest})
    return found
