"""Training examples: read from a segmentation set, then MMSegmentation's transforms, seeded by example and epoch."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from adm_core.errors import AdmError
from adm_core.seeds import derive
from tasks.datasets.loading import Example, Request
from tasks.datasets.scenes import VOID, SegmentationSet
from tasks.segmentation import compat
from tasks.segmentation.data_settings import DataSettings

PADDING = (103, 116, 123)
"""Blue, green, red around an image smaller than the crop: ImageNet's mean, near zero once normalised."""
Results = dict[str, Any]
"""What MMSegmentation's transforms hand on."""
Transform = Callable[[Results], Results]


class TrainingExamples(Dataset[Example | str]):
    """Augmented examples of a set; a bad one becomes its error's text, which crosses process borders unharmed.

    Augmentation is MMSegmentation's ``RandomResize``, ``RandomCrop``, ``RandomFlip`` and ``PhotoMetricDistortion``,
    as far as the settings ask for them. With several views, all come from one crop and differ in colour alone.

    Args:
        train: the training images.
        settings: of the protocol.
        seed: each example's augmentation follows from it, the epoch and the example's position.
        views: 1 or more.
    """

    def __init__(self, train: SegmentationSet, settings: DataSettings, seed: int, views: int) -> None:
        self._set, self._seed, self._views = train, seed, views
        self._geometry = geometry(settings)
        self._colour = [_build(type="PhotoMetricDistortion")] if settings.colour else []

    def __len__(self) -> int:
        return len(self._set)

    def __getitem__(self, request: Request) -> Example | str:
        assert request.epoch is not None
        try:
            image, labels = read(self._set, request.position)
        except AdmError as error:
            return str(error)
        results = as_results(image, labels)
        seeds = [derive(self._seed, "image", request.epoch, request.position, part) for part in range(1 + self._views)]
        results = _seeded(self._geometry, results, seeds[0])
        shown = [self._shown(results, seed) for seed in seeds[1:]] if self._colour else [_pixels(results["img"])]
        views = torch.stack(shown if len(shown) == self._views else shown * self._views)
        found = torch.from_numpy(np.ascontiguousarray(results["gt_seg_map"]))
        return Example(views, found, torch.tensor(request.position))

    def _shown(self, results: Results, seed: int) -> Tensor:
        return _pixels(_seeded(self._colour, copy.deepcopy(results), seed)["img"])


def geometry(settings: DataSettings) -> list[Transform]:
    """The transforms that move pixels, in order; the result has the size of the crop."""
    height, width = settings.crop
    steps: list[Transform] = [_RandomScale(settings.scale)] if settings.scale != (1.0, 1.0) else []
    steps.append(_build(type="RandomCrop", crop_size=(height, width), cat_max_ratio=settings.class_limit))
    if settings.flip:
        steps.append(_build(type="RandomFlip", prob=0.5))
    return [*steps, _build(type="Pad", size=(width, height), pad_val={"img": PADDING, "seg": VOID})]


def read(source: SegmentationSet, position: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One image and its labels.

    Raises:
        AdmError: a file is damaged or does not fit its partner, or every pixel is void.
    """
    image, labels = source.read(position)
    if bool((labels == VOID).all()):
        raise AdmError(f"{source.name(position)}: every pixel is void, so there is nothing to learn or to score; "
                       "leave it out, or check the ids of its label file")  # fmt: skip
    return image, labels


def as_results(image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Results:
    """An RGB image [H, W, 3] and labels [H, W] in the form that MMSegmentation's transforms take (blue first)."""
    return {
        "img": np.ascontiguousarray(image[..., ::-1]),
        "gt_seg_map": np.array(labels),
        "seg_fields": ["gt_seg_map"],
        "img_shape": image.shape[:2],
        "ori_shape": image.shape[:2],
        "reduce_zero_label": False,
    }


def _build(**config: Any) -> Transform:
    compat.load()
    from mmseg.registry import TRANSFORMS

    built: Transform = TRANSFORMS.build(config)
    return built


class _RandomScale:
    """``RandomResize`` relative to each image's own size, for sets whose images differ in size."""

    def __init__(self, factors: tuple[float, float]) -> None:
        self._factors = factors

    def __call__(self, results: Results) -> Results:
        height, width = results["img"].shape[:2]
        return _build(type="RandomResize", scale=(width, height), ratio_range=self._factors, keep_ratio=True)(results)


def _seeded(transforms: list[Transform], results: Results, seed: int) -> Results:
    """The transforms under their own state of numpy's and Python's generators, which are left as they were."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        for transform in transforms:
            results = transform(results)
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
    return results


def _pixels(image: NDArray[Any]) -> Tensor:
    """A BGR image [H, W, 3] of any dtype as uint8 [3, H, W], RGB."""
    if image.dtype != np.uint8:
        image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))
