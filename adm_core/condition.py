"""The condition that a benchmark is trained and tested under, as it reaches the task that opens it. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

NOISES = ("symmetric", "asymmetric", "instance")
"""Kinds of label noise."""


@dataclass(frozen=True)
class LabelNoise:
    """Wrong labels among those trained on; validation and test keep theirs.

    Attributes:
        kind: of :data:`NOISES`: ``symmetric`` (any other class, each as likely), ``asymmetric`` (the class that it is
            taken for) or ``instance`` (a class that the picture decides).
        rate: share of the training labels that are wrong, in (0, 1).
        seed: of the draws.
    """

    kind: str
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
