"""What a task gives the training loop: batches, a loss, an evaluation. Tasks write no loops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from torch import Tensor

from adm_core.batch import Batch
from adm_core.method import PredictionKind
from adm_core.taps import Network

Scores = dict[str, dict[str, float | None]]
"""Role (``student``, ``teacher``) to metric to value; None where a metric cannot be had."""


class Task(Protocol):
    """A task opened on one benchmark with one protocol, as the loop sees it."""

    kind: PredictionKind
    steps_per_epoch: int
    has_validation: bool
    metric: str
    higher_is_better: bool

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch from step ``start`` on; a pure function of seed, epoch and step."""

    def task_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss per example [B] or per position [B, H, W], not reduced."""

    def evaluate(self, networks: Mapping[str, Network], split: str) -> Scores:
        """Metrics of each network on ``validation`` or ``test``."""

    def export(self, network: Network, folder: Path) -> None:
        """Also write a trained network in the form that the task's own library loads, where it has one."""
