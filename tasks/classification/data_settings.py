"""The ``data`` part of a protocol for image classification. Loads no torch, so that plans can check it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from adm_core.errors import AdmError
from tasks.datasets import splits


class DataSettings(splits.SplitSettings):
    """The ``data`` part of a protocol for image classification; limits take classes in equal parts.

    Attributes:
        crop_padding: pixels of padding before a random crop of the original size; of images in memory alone, as those
            in folders are cropped by ``RandomResizedCrop``.
        flip: mirror half of the images.
    """

    crop_padding: int = Field(4, ge=0)
    flip: bool = True


def read(data: Mapping[str, Any], where: str) -> DataSettings:
    """The settings as a protocol gives them; see :func:`tasks.datasets.splits.read`."""
    return splits.read(DataSettings, data, where)


def check_used(settings: DataSettings, in_memory: bool, where: str) -> None:
    """Stop at a setting that nothing of a benchmark would obey.

    Args:
        settings: of the protocol.
        in_memory: whether the benchmark's images lie in memory rather than in folders.
        where: which protocol, for messages.

    Raises:
        AdmError: names the key and what would be right.
    """
    if not in_memory and "crop_padding" in settings.model_fields_set and settings.crop_padding:
        raise AdmError(
            f"{where}: key 'data.crop_padding' = {settings.crop_padding}: images in folders are cropped by "
            "RandomResizedCrop, without padding; leave the key out, or say 0"
        )
