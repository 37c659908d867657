"""What training takes: the time of every step and the peak of memory, evaluation and checkpoints left out."""

from __future__ import annotations

import itertools
import resource
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

_PROCESS = Path("/proc/self")
_RESET_PEAK = "5"
"""What Linux's ``clear_refs`` takes to set the peak of the resident set to what is resident now (proc(5))."""
_UNCOUNTED_MB = 8.0
"""MiB by which Linux's count of what is resident may be late, as every thread counts for itself first."""


class Stretch(NamedTuple):
    """What a stretch of training took.

    Attributes:
        seconds: from its beginning to its end.
        step_ms: milliseconds from the end of one step to the end of the next, drawing the batch included.
        peak_mb: MiB; None where it cannot be told from what came before.
    """

    seconds: float
    step_ms: list[float]
    peak_mb: float | None


class Meter:
    """Measures stretches of training without waiting for the device between steps.

    Memory is what torch has allocated on a GPU; on a CPU the resident set of the process, which Linux measures anew for
    every stretch. Elsewhere, and in containers that don't let it, a process has one peak since it began: it is that of
    a stretch in which it grew, and tells nothing of any other.

    Args:
        device: where training happens.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._on_gpu = device, device.type == "cuda"
        self._began, self._marks = 0.0, list[float | torch.cuda.Event]()
        self._peak_before = 0.0

    def begin(self) -> None:
        """A stretch begins."""
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._peak_before = _peak_before()
        self._marks.clear()
        self._began = time.perf_counter()
        self.step()

    def step(self) -> None:
        """A step has been taken, or handed to the device."""
        if self._on_gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def end(self) -> Stretch:
        """What the stretch took; waits for the device."""
        if self._on_gpu:
            torch.cuda.synchronize(self._device)
        seconds = time.perf_counter() - self._began
        return Stretch(seconds, [_between(*pair) for pair in itertools.pairwise(self._marks)], self._peak())

    def _peak(self) -> float | None:
        if self._on_gpu:
            return torch.cuda.max_memory_allocated(self._device) / 2**20
        peak = _peak_of_process()
        return peak if peak > self._peak_before else None


def _between(earlier: float | torch.cuda.Event, later: float | torch.cuda.Event) -> float:
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
