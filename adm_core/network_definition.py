"""What a suite says about a network of its own, as it reaches the task that builds it. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class NetworkDefinition:
    """A network that a suite defines: a known one, or one that a config file describes, with changes.

    A task builds it in ``network(name, definition)``; the result goes by ``name``, the suite's own word for it.

    Attributes:
        base: a network name that the task knows, or the file's name where there is a ``file``.
        overrides: plain JSON that only the task understands; empty: none.
        file: the config file that takes the place of a known network.
        brought: whether its weights come from elsewhere, so that somebody else decided what they were trained on.
    """

    base: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None
    brought: bool = False
