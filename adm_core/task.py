"""What a task gives the training loop: batches, a loss, an evaluation. Tasks write no loops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from torch import Tensor

from adm_core.batch import Batch
from adm_core.method import PredictionKind
from adm_core.taps import Network

Scores = dict[str, dict[str, float | None]]
"""Role (``student``, ``teacher``) to metric to value; None where a metric cannot be had."""


class Task(Protocol):
    """A task opened on one benchmark with one protocol, as the loop sees it.

    Attributes:
        costs: what its evaluation took, by name in a record's cost, beside what the loop measures.
    """

    costs: Mapping[str, Mapping[str, float]] = MappingProxyType({})

    kind: PredictionKind
    steps_per_epoch: int
    has_validation: bool
    metric: str
    higher_is_better: bool

    def inherit(self, student: Network, teacher: Network) -> None:
        """Let a student take over weights of its trained teacher before training, where the protocol asks for it."""
        return None

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch from step ``start`` on; a pure function of seed, epoch and step."""

    def example(self) -> tuple[Tensor, ...]:
        """The arguments of a network's forward for two examples, to find shapes with."""

    def task_loss(self, prediction: Tensor, batch: Batch) -> Tensor:
        """The loss of a prediction on a batch per example [B] or per position [B, H, W], not reduced."""

    def evaluate(self, networks: Mapping[str, Network], split: str) -> Scores:
        """Metrics of each network on ``validation`` or ``test``."""

    def export(self, network: Network, folder: Path) -> None:
        """Also write a trained network in the form that the task's own library loads, where it has one."""
