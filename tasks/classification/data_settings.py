"""The ``data`` part of a protocol for image classification. Loads no torch, so that plans can check it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from tasks.datasets import splits


class DataSettings(splits.SplitSettings):
    """The ``data`` part of a protocol for image classification; limits take classes in equal parts.

    Attributes:
        crop_padding: pixels of padding before a random crop of the original size.
        flip: mirror half of the images.
    """

    crop_padding: int = Field(4, ge=0)
    flip: bool = True


def read(data: Mapping[str, Any], where: str) -> DataSettings:
    """The settings as a protocol gives them; see :func:`tasks.datasets.splits.read`."""
    return splits.read(DataSettings, data, where)
