"""What the noted steps tell: how often training was broken off, what of it was done twice, and whose fault that was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """Something that was done to a run or to its store.

    Attributes:
        kind: one of those that the table counts.
        time: when it had had its effect, as ``time.monotonic`` tells it: whoever was to die was dead.
        ends: whether it may have ended workers.
        cell: whose file was spoilt; None: no cell's was.
        file: which of its files: ``checkpoint.pt``, ``outcome.json``, ``record``, ...
    """

    kind: str
    time: float
    ends: bool = True
    cell: str | None = None
    file: str = ""


@dataclass(frozen=True)
class Stretch:
    """What one process trained of a cell.

    Attributes:
        times: when each step had been taken, in seconds of ``time.monotonic``.
        first: number of the first step that was taken, from 1.
        ended: when its outcome ``ok`` was safe on disk; None: it never was.
    """

    times: tuple[float, ...]
    first: int
    ended: float | None

    @property
    def last(self) -> int:
        """Number of the last step that was taken."""
        return self.first + len(self.times) - 1


@dataclass(frozen=True)
class Break:
    """A training that was broken off and taken up again.

    Attributes:
        kind: of the fault that made its steps be repeated.
        resumed: whether it was taken up from a checkpoint; otherwise it began anew.
        steps: that were repeated.
        seconds: of training that was repeated.
    """

    kind: str
    resumed: bool
    steps: int
    seconds: float


def stretches(folder: Path) -> list[Stretch]:
    """What the processes at one cell trained, in order; one that only took the end of training up adds no stretch."""
    found: list[Stretch] = []
    for file in sorted(folder.iterdir(), key=lambda file: float(file.name.split("-")[0])):
        stretch = _stretch(file)
        if stretch.times:
            found.append(stretch)
        elif stretch.ended is not None and found:
            found[-1] = replace(found[-1], ended=stretch.ended)
    return found


def breaks(cell: str, found: Iterable[Stretch], faults: Iterable[Fault]) -> Iterator[Break]:
    """The breaks in a cell's training; a training that follows a complete one is not taken up but trained again."""
    known = sorted(faults, key=lambda fault: fault.time)
    for before, after in pairwise(found):
        if before.ended is not None:
            continue
        stop, start = before.times[-1], after.times[0]
        spoilt = [f for f in known if stop <= f.time <= start and (f.cell, f.file) == (cell, "checkpoint.pt")]
        ending = [f for f in known if f.time >= stop and f.ends]
        kind = next((f.kind for f in (*spoilt, *ending)), "no fault")
        steps = before.last - after.first + 1
        kept = before.times[-steps - 1] if steps < len(before.times) else before.times[0]
        yield Break(kind, after.first > 1, steps, stop - kept)


def trained_twice(cell: str, found: Iterable[Stretch], faults: Iterable[Fault]) -> int:
    """How often a cell was trained again after a complete training, though neither outcome nor record was spoilt."""
    spoilt = [fault.time for fault in faults if fault.cell == cell and fault.file in ("outcome.json", "record")]
    return sum(
        before.ended is not None and not any(before.ended <= time <= after.times[0] for time in spoilt)
        for before, after in pairwise(found)
    )


def _stretch(file: Path) -> Stretch:
    lines = [line.split(" ", 1) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    ended = next((float(time) for time, word in lines if word == "ended ok\n"), None)
    steps = [(float(time), int(word)) for time, word in lines if not word.startswith("ended")]
    numbers = [number for _, number in steps]
    first = numbers[0] if numbers else 1
    assert numbers == list(range(first, first + len(numbers))), f"{file}: steps are not in order"
    return Stretch(tuple(time for time, _ in steps), first, ended)
