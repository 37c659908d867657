"""Feature extractors: the spaces in which generated images are compared with real ones.

``classifier`` is this suite's own classifier of a data set. The one for ``digits`` is shipped: trained on the 1,097
training digits, it names 99.5 % of the 200 validation digits. Others are made once, into a data root::

    python -m tasks.diffusion.extractor cifar10 --data-root DATA

``inception`` is the Inception network of the FID literature, by torch-fidelity, from a weights file in a data root.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from adm_core.errors import AdmError, unknown
from tasks import datasets
from tasks.datasets.catalogue import SOURCES
from tasks.datasets.images import ImageSet
from tasks.diffusion import classifier
from tasks.diffusion.classifier import Architecture, Training

SHIPPED = Path(__file__).parent / "extractors"
"""Weights that come with the suite."""
EXTRACTORS = ("classifier", "inception")

RECIPES: dict[str, tuple[tuple[int, ...], int, Training]] = {
    "digits": ((24, 64), 1, Training(epochs=60, batch_size=64, learning_rate=5e-3, shift=1, flip=False)),
    "cifar10": ((64, 128, 256), 2, Training(epochs=40, batch_size=256, learning_rate=4e-3, shift=4, flip=True)),
    "cifar100": ((64, 128, 256), 2, Training(epochs=40, batch_size=256, learning_rate=4e-3, shift=4, flip=True)),
}
"""Widths of the stages, blocks in each, and training, by data set."""

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_DIGEST = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILE}"


class Extractor(ABC):
    """Features of images in a space that its digest names.

    Attributes:
        name: ``classifier`` or ``inception``.
        digest: sha256 (hex) of the weights file; features of equal digests can be compared.
        dimensions: D.
        device: where it runs.
    """

    name: str
    distances: tuple[str, str]
    """What the Fréchet and the kernel distance in this space are called."""

    def __init__(self, digest: str, dimensions: int, device: torch.device | str) -> None:
        self.digest, self.dimensions, self.device = digest, dimensions, torch.device(device)

    def features(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Features float32 [N, D] of images [N, C, H, W] in [-1, 1], on the extractor's device.

        Args:
            images: on any device.
            batch_size: images at a time.
        """
        with torch.inference_mode():
            return torch.cat([self._features(batch.to(self.device)) for batch in images.split(batch_size)])

    @abstractmethod
    def _features(self, images: Tensor) -> Tensor:
        """Features of one batch on the device."""


class ClassifierExtractor(Extractor):
    """The penultimate features of a classifier of this suite."""

    name = "classifier"
    distances = ("frechet", "kernel")

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        self._model = classifier.load(path).to(device)
        super().__init__(_sha256(path), self._model.architecture.widths[-1], device)

    def classify(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, D] and logits [B, K] of images [B, C, H, W] in [-1, 1] on the extractor's device.

        Gradients reach the images, never the weights.
        """
        features, logits = self._model(images)
        return features, logits

    def _features(self, images: Tensor) -> Tensor:
        return self.classify(images)[0]


class InceptionExtractor(Extractor):
    """The 2,048 pool features of FID and KID, from torch-fidelity's port of the original Inception network.

    Images are rounded to 8 bits, as FID has them; grey ones are given three equal channels.

    Raises:
        AdmError: the file is not the one that the literature uses.
    """

    name = "inception"
    distances = ("fid", "kid")

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        found = _sha256(path)
        if found != INCEPTION_DIGEST:
            raise AdmError(
                f"{path}: wrong file: its sha256 is {found[:8]}..., that of the Inception weights of FID is "
                f"{INCEPTION_DIGEST[:8]}...; get it from {INCEPTION_URL}"
            )
        super().__init__(found, 2048, device)
        model = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path))
        self._model: nn.Module = model.to(self.device)

    def _features(self, images: Tensor) -> Tensor:
        pixels = ((images + 1) * 127.5).round().clamp(0, 255).byte()
        features: Tensor = self._model(pixels.expand(-1, 3, -1, -1))[0]
        return features


def open_extractor(name: str, dataset: str, roots: Sequence[Path], device: torch.device | str = "cpu") -> Extractor:
    """The extractor that a benchmark is scored with.

    Args:
        name: ``classifier`` or ``inception``.
        dataset: whose classifier.
        roots: data roots to look in, in order.
        device: where it runs.

    Raises:
        AdmError: unknown, missing (says where it was looked for and how to get it), damaged or a wrong file.
    """
    if name == "classifier":
        return ClassifierExtractor(_find_classifier(dataset, roots), device)
    if name == "inception":
        path = _find(f"inception/{INCEPTION_FILE}", roots, "the file of Inception weights", f"get {INCEPTION_URL}")
        return InceptionExtractor(path, device)
    raise unknown("feature extractor", name, EXTRACTORS)


def open_classifier(dataset: str, roots: Sequence[Path], device: torch.device | str = "cpu") -> ClassifierExtractor:
    """The suite's classifier of a data set, for those that need its logits; see :func:`open_extractor`."""
    return ClassifierExtractor(_find_classifier(dataset, roots), device)


def as_tensors(image_set: ImageSet) -> tuple[Tensor, Tensor]:
    """A set's images as float32 [N, C, H, W] in [-1, 1], and its labels int64 [N]."""
    pixels = torch.from_numpy(np.ascontiguousarray(image_set.images))
    return pixels.float() / 127.5 - 1, torch.from_numpy(np.ascontiguousarray(image_set.labels))


def make(dataset: str, root: Path | None, device: torch.device | str) -> str:
    """Train a data set's classifier on its train split and write its weights.

    Args:
        dataset: one of ``RECIPES``.
        root: the data root that has the set and gets the weights; None: an embedded set, whose weights are shipped.
        device: where it is trained.

    Returns:
        What was written where, and the accuracy on the validation split, or on test where there is none.

    Raises:
        AdmError: the set is unknown or missing.
    """
    if dataset not in RECIPES:
        raise unknown("data set", dataset, RECIPES)
    source = SOURCES[dataset]
    if not source.embedded and root is None:
        raise AdmError(f"a classifier of {dataset} needs --data-root: the folder that has the data set")
    held_out: datasets.Split = "validation" if "validation" in source.splits else "test"
    images, labels = as_tensors(datasets.load(dataset, "train", [root] if root else []))
    widths, blocks, training = RECIPES[dataset]
    architecture = Architecture(images.shape[1], len(labels.unique()), widths, blocks)
    model = classifier.train(architecture, training, images, labels, device)
    reached = classifier.accuracy(model, *as_tensors(datasets.load(dataset, held_out, [root] if root else [])))
    path = _path(dataset, root)
    classifier.save(model, path)
    size = path.stat().st_size // 1000
    return f"{path}: {size} kB, sha256 {_sha256(path)}, {held_out} accuracy {reached:.1f} %"


def main(arguments: Sequence[str]) -> None:
    """The command that makes a data set's classifier."""
    parser = argparse.ArgumentParser(prog="python -m tasks.diffusion.extractor", description=main.__doc__)
    parser.add_argument("dataset", help=", ".join(RECIPES))
    parser.add_argument("--data-root", type=Path, help="has the data set, and gets extractors/DATASET.safetensors")
    given = parser.parse_args(arguments)
    try:
        print(make(given.dataset, given.data_root, "cuda" if torch.cuda.is_available() else "cpu"))
    except AdmError as error:
        sys.exit(f"error: {error}")


def _path(dataset: str, root: Path | None) -> Path:
    folder = root.expanduser() / "extractors" if root else SHIPPED
    return folder / f"{dataset}.safetensors"


def _find_classifier(dataset: str, roots: Sequence[Path]) -> Path:
    if dataset not in RECIPES:
        raise unknown("classifier of data set", dataset, RECIPES)
    shipped = _path(dataset, None)
    if shipped.is_file():
        return shipped
    how = f"python -m tasks.diffusion.extractor {dataset} --data-root {roots[0] if roots else 'DATA'}"
    return _find(f"extractors/{dataset}.safetensors", roots, f"the classifier of {dataset}", how)


def _find(file: str, roots: Sequence[Path], title: str, how: str) -> Path:
    """The first root's file."""
    looked = [Path(root).expanduser() / file for root in roots]
    for path in looked:
        if path.is_file():
            return path
    where = "\n".join(f"    {path}" for path in looked) or "    nowhere: no data root is set"
    raise AdmError(f"{title} was not found\n  looked in:\n{where}\n  to get it: {how}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main(sys.argv[1:])
