"""Where a run stands: step, curves, and the sums of the epoch that is under way; and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from adm_core.errors import Diverged
from adm_core.meter import Span
from adm_core.outcome import Outcome
from adm_core.taps import Network

Curves = dict[str, list[float | None]]


@dataclass(frozen=True)
class Trained:
    """What training leaves.

    Attributes:
        networks: the networks to evaluate, by role, in evaluation mode: last or best weights, averaged if asked; the
            student is what its method deploys, ``branch2``, ... are its further branches with its beginning.
        curves: one value per epoch: ``epoch``, ``lr``, ``train.*``, ``log.*``, ``validation.*``.
        seconds: time spent in training steps, over all attempts.
        step_ms: median time of an optimiser step in milliseconds; None where none was measured.
        peak_mb: peak of memory in training steps, MiB, as :class:`adm_core.meter.Meter` tells it; None where it cannot.
        steps: optimiser steps.
        epoch: the epoch whose weights these are.
        shared: seconds of these that were spent once for all members of a group.
    """

    networks: Mapping[str, Network]
    curves: Curves
    seconds: float
    step_ms: float | None
    peak_mb: float | None
    steps: int
    epoch: int
    shared: float = 0.0


@dataclass
class Progress:
    """Where a run stands; everything but tensors is JSON, so that it travels in a checkpoint.

    Attributes:
        step: optimiser steps done.
        seconds: spent in them, over all attempts.
        step_ms: milliseconds of every one, for their median; four bytes each in a checkpoint.
        peak_mb: peak of memory in them, MiB, over all attempts; None where it cannot be told.
        curves: one value per epoch: ``epoch``, ``lr``, ``train.*``, ``log.*``, ``validation.*``.
        best: best validation score so far, larger is better; None before the first.
        best_epoch: its epoch, counted from 1.
        sums: of every term since the epoch began, float64; those of the terms that came last are views of one tensor.
        counts: how many values each sum holds.
        shared: seconds of those above that were spent once for all members of a group.
    """

    step: int = 0
    seconds: float = 0.0
    step_ms: list[float] = field(default_factory=list)
    peak_mb: float | None = None
    curves: Curves = field(default_factory=dict)
    best: float | None = None
    best_epoch: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    shared: float = 0.0

    def __post_init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._together = torch.zeros(0)

    @property
    def epochs(self) -> int:
        """How many epochs have been ended: evaluated, and noted in the curves."""
        return len(self.curves.get("epoch", ()))

    def add(self, outcome: Outcome) -> None:
        """Take in the terms of a forward pass, by two operations of the device however many they are."""
        values = {f"train.{name}": value for name, value in outcome.terms.items()}
        values |= {f"log.{name}": value for name, value in outcome.log.items()}
        names = tuple(values)
        if names != self._names:
            self._sum_together(names, next(iter(values.values())).device)
        self._together += torch.stack(list(values.values()))
        for name in names:
            self.counts[name] = self.counts.get(name, 0) + 1

    def _sum_together(self, names: tuple[str, ...], device: torch.device) -> None:
        """Move the sums of some terms, from 0 where there is none yet, into one tensor."""
        zero = torch.zeros((), dtype=torch.float64, device=device)
        self._names, self._together = names, torch.stack([self.sums.get(name, zero) for name in names])
        self.sums |= dict(zip(names, self._together.unbind(), strict=True))

    def took(self, span: Span) -> None:
        """Take in what a span of steps took."""
        self.seconds += span.seconds
        self.shared += span.shared
        self.step_ms += span.step_ms
        peaks = [peak for peak in (self.peak_mb, span.peak_mb) if peak is not None]
        self.peak_mb = max(peaks, default=None)

    def check_finite(self, steps_per_epoch: int, epochs: int) -> None:
        """Look whether all sums are finite, which waits for the device.

        Raises:
            Diverged: names the terms and the epoch.
        """
        if not self.sums or bool(torch.stack(list(self.sums.values())).isfinite().all()):
            return
        bad = [name for name, value in self.sums.items() if not bool(value.isfinite())]
        epoch = 1 + (self.step - 1) // steps_per_epoch
        raise Diverged(f"{', '.join(bad)} became {self.sums[bad[0]].item()} in epoch {epoch} of {epochs}")

    def means(self) -> dict[str, float | None]:
        """The mean of every term since the epoch began; the sums begin anew."""
        sums = torch.stack(list(self.sums.values())).tolist() if self.sums else []
        means: dict[str, float | None] = {
            name: value / self.counts[name] for name, value in zip(self.sums, sums, strict=True)
        }
        self.sums, self.counts, self._names = {}, {}, ()
        return means

    def note(self, epoch: int, values: Mapping[str, float | None]) -> None:
        """Add an epoch's values to the curves; a curve without a value in some epoch holds None there."""
        for name, value in values.items():
            column = self.curves.setdefault(name, [])
            column.extend([None] * (epoch - 1 - len(column)))
            column.append(value)
        for column in self.curves.values():
            column.extend([None] * (epoch - len(column)))

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        numbers = {
            key: value for key, value in self.__dict__.items() if key[0] != "_" and key not in ("sums", "step_ms")
        }
        times = torch.tensor(self.step_ms, dtype=torch.float32)
        return {"progress": json.dumps(numbers), "sums": self.sums, "step_ms": times}

    @classmethod
    def of_state(cls, state: Mapping[str, Any], device: torch.device) -> Progress:
        """The progress that a checkpoint holds, sums on the device."""
        sums = {name: value.to(device) for name, value in state["sums"].items()}
        return cls(**json.loads(state["progress"]), sums=sums, step_ms=state["step_ms"].tolist())
