"""The ``data`` part of a protocol for language. Loads no torch, so that plans can check it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.datasets import splits


class DataSettings(splits.SplitSettings):
    """The ``data`` part of a protocol for language: splits alone; limits take windows evenly spread over a split."""


def read(data: Mapping[str, Any], where: str) -> DataSettings:
    """The settings as a protocol gives them; see :func:`tasks.datasets.splits.read`."""
    return splits.read(DataSettings, data, where)
