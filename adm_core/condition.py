"""The condition that a benchmark is trained and tested under, as it reaches the task that opens it. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LabelNoise:
    """Wrong labels among those trained on; validation and test keep theirs.

    Attributes:
        kind: ``symmetric`` (any other class, each as likely), ``asymmetric`` (one class that is taken for it) or
            ``instance`` (a class that the picture decides).
        rate: share of the training labels that are wrong, in (0, 1).
        seed: of the draws.
    """

    kind: Literal["symmetric", "asymmetric", "instance"]
    rate: float
    seed: int = 0


@dataclass(frozen=True)
class Shift:
    """Pictures that look otherwise where networks are tested than where they are trained.

    Attributes:
        corruptions: names; each picture has one of them.
        severity: 1 (slight) to 5.
        seed: of the draws.
    """

    corruptions: tuple[str, ...]
    severity: int
    seed: int = 0


@dataclass(frozen=True)
class Condition:
    """What is made of a benchmark: one of the two, or both."""

    noise: LabelNoise | None = None
    shift: Shift | None = None
