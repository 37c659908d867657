"""What training takes: the time of every step and the peak of memory, evaluation and checkpoints left out."""

from __future__ import annotations

import itertools
import resource
import sys
import time
from collections.abc import Hashable
from pathlib import Path
from typing import NamedTuple

import torch

from adm_core import freed_memory

_PROCESS = Path("/proc/self")
_Mark = float | torch.cuda.Event
_RESET_PEAK = "5"
"""What Linux's ``clear_refs`` takes to set the peak of the resident set to what is resident now (proc(5))."""
_UNCOUNTED_MB = 8.0
"""MiB by which Linux's count of what is resident may be late, as every thread counts for itself first."""


class Span(NamedTuple):
    """What a span of training took.

    Attributes:
        seconds: from its beginning to its end.
        step_ms: milliseconds from the end of one step to the end of the next, drawing the batch included.
        peak_mb: MiB; None where it cannot be told from what came before.
        shared: seconds of it that were spent once for all members of a group.
    """

    seconds: float
    step_ms: list[float]
    peak_mb: float | None
    shared: float = 0.0


class Meter:
    """Measures spans of training without waiting for the device between steps.

    Memory is what torch has allocated on a GPU; on a CPU the resident set of the process, which Linux measures anew for
    every span; what was freed before the first is given back then. Elsewhere, and in containers that don't let it, a
    process has one peak since it began: it is that of a span in which it grew, and tells nothing of any other.

    Args:
        device: where training happens.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._on_gpu = device, device.type == "cuda"
        self._began, self._marks = 0.0, list[_Mark]()
        self._peak_before = 0.0

    def begin(self) -> None:
        """A span begins."""
        first = not self._marks
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            if first:
                freed_memory.give_back()
            self._peak_before = _peak_before()
        self._marks.clear()
        self._began = time.perf_counter()
        self.step()

    def step(self) -> None:
        """A step has been taken, or handed to the device."""
        self._marks.append(_mark(self._device))

    def end(self) -> Span:
        """What the span took; waits for the device."""
        if self._on_gpu:
            torch.cuda.synchronize(self._device)
        seconds, peak = time.perf_counter() - self._began, _peak_since(self._peak_before, self._device)
        return Span(seconds, [_between(*pair) for pair in itertools.pairwise(self._marks)], peak)


class TurnMeter:
    """Measures a span of training that several take in turns, each turn apart, without waiting for the device.

    Args:
        device: where training happens.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._on_gpu = device, device.type == "cuda"
        self._turns: list[tuple[Hashable, _Mark]] = []
        self._peak_before = 0.0

    def begin(self) -> None:
        """A span begins."""
        self._turns = [("", _mark(self._device))]

    def turn(self, whose: Hashable) -> None:
        """The turn that is over, or handed to the device, was this one's."""
        self._turns.append((whose, _mark(self._device)))

    def end(self) -> list[tuple[Hashable, float]]:
        """Whose turn took how many milliseconds, in order; waits for the device."""
        if self._on_gpu:
            torch.cuda.synchronize(self._device)
        pairs = itertools.pairwise(self._turns)
        return [(whose, _between(earlier, later)) for (_, earlier), (whose, later) in pairs]

    def watch(self) -> None:
        """From now on the peak of memory is taken anew.

        On a CPU memory that was freed is given back first, or what others have used would count.
        """
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            freed_memory.give_back()
            self._peak_before = _peak_before()

    def peak(self) -> float | None:
        """The peak since then, MiB, as :class:`Meter` tells it; None where it cannot be told."""
        return _peak_since(self._peak_before, self._device)


def _mark(device: torch.device) -> _Mark:
    """A moment: of the device's work where that is a GPU's."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def _between(earlier: _Mark, later: _Mark) -> float:
    """Milliseconds between two marks of one kind."""
    if isinstance(earlier, float) or isinstance(later, float):
        return 1000 * (float(later) - float(earlier))  # type: ignore[arg-type]
    return float(earlier.elapsed_time(later))


def _peak_before() -> float:
    """MiB that the peak of the process's resident set exceeds if it is of what comes now: 0 where it can be reset."""
    try:
        (_PROCESS / "clear_refs").write_text(_RESET_PEAK)
    except OSError:
        return _peak_of_process()
    peak, now = _resident("VmHWM"), _resident("VmRSS")
    was_reset = peak is not None and now is not None and peak - now < _UNCOUNTED_MB
    return 0.0 if was_reset else _peak_of_process()


def _peak_since(before: float, device: torch.device) -> float | None:
    """MiB: on a GPU the peak since it was reset; on a CPU that of the process, None where it has not grown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = _peak_of_process()
    return peak if peak > before else None


def _peak_of_process() -> float:
    """The peak of the process's resident set in MiB, since it was reset."""
    peak = _resident("VmHWM")
    if peak is not None:
        return peak
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _resident(what: str) -> float | None:
    """What Linux's ``/proc/self/status`` tells of the process's resident set, MiB; None on other systems."""
    try:
        lines = (_PROCESS / "status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{what}:")), None)
