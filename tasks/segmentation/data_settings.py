"""The ``data`` part of a protocol for segmentation. Loads no torch, so that plans can check it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.datasets import splits


class Sliding(BaseModel):
    """Sliding-window inference: windows of ``crop`` pixels, every ``stride`` pixels, logits averaged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    crop: int = Field(gt=0)
    stride: int = Field(gt=0)


class DataSettings(splits.SplitSettings):
    """The ``data`` part of a protocol for segmentation; limits take images evenly spread over the split.

    Attributes:
        crop: height and width of the training crops.
        scale: smallest and largest factor by which an image is resized before it is cropped.
        flip: mirror half of the images.
        colour: MMSegmentation's photometric distortion (brightness, contrast, saturation, hue). Where a method
            gives each network a view of its own, the colours alone differ.
        class_limit: draw a crop again (ten times at most) while one class fills more than this share of it.
        sliding: windows for evaluation; None: the whole image at once.
        pretrained: start backbones from the ImageNet weights that MMSegmentation's configuration names.
    """

    crop: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)
    flip: bool = True
    colour: bool = False
    class_limit: float = Field(1.0, gt=0, le=1)
    sliding: Sliding | None = None
    pretrained: bool = False

    @field_validator("crop")
    @classmethod
    def _has_pixels(cls, crop: tuple[int, int]) -> tuple[int, int]:
        if min(crop) < 1:
            raise ValueError("sides should be 1 pixel or more")
        return crop

    @field_validator("scale")
    @classmethod
    def _rises(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if not 0 < scale[0] <= scale[1]:
            raise ValueError("should be a smallest and a largest factor above 0, as in [0.5, 2.0]")
        return scale


def read(data: Mapping[str, Any], where: str) -> DataSettings:
    """The settings as a protocol gives them; see :func:`tasks.datasets.splits.read`."""
    return splits.read(DataSettings, data, where)
