"""What a run shows: a live table on a terminal, one plain line per start and end elsewhere."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from suites.plan.plan import DONE, Plan
from suites.plan.view import duration
from suites.spec.expand import PlannedCell
from suites.work.folder import WorkFolder


@dataclass
class _Active:
    planned: PlannedCell
    folder: WorkFolder
    together: int
    since: float = field(default_factory=lambda: time.monotonic())
    first_share: float | None = None

    def look(self, estimate: float | None) -> tuple[dict[str, Any], float | None]:
        """The worker's latest report, and seconds until it is done: from the pace so far, or else from cells like it.

        Args:
            estimate: seconds of a worker that the cell takes, those of others that are trained beside it left out.
        """
        found = self.folder.progress()
        if found and self.first_share is None:  # a resumed cell's share at the first look is not 0
            self.first_share, self.since = _share(found), time.monotonic()
        elapsed, gained = time.monotonic() - self.since, _share(found) - (self.first_share or 0.0)
        if gained > 0:
            return found, elapsed * (1 - _share(found)) / gained
        return found, max(estimate * self.together - elapsed, 0.0) if estimate is not None else None


class LiveDisplay:
    """A table that is redrawn in place: counts, a bar, what runs now and how far it is. Use as a context manager.

    Args:
        plan: what is to be done.
        title: of the suite.
        console: where to draw.
    """

    def __init__(self, plan: Plan, title: str, console: Console) -> None:
        self._tally = _Tally(plan)
        self._title, self._console = title, console
        self._active: dict[str, _Active] = {}
        self._lock = threading.Lock()  # it is drawn by a thread of its own
        self._live = Live(self, console=console, refresh_per_second=4, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._lock:
            self._active.clear()
        self._live.stop()

    def started(self, planned: PlannedCell, folder: WorkFolder, together: int = 1) -> None:
        """A cell's training began; its worker trains so many cells, itself included."""
        with self._lock:
            self._active[planned.id] = _Active(planned, folder, together)

    def ended(self, planned: PlannedCell, status: str, reason: str | None, seconds: float) -> None:
        """An attempt ended, or the cell was settled without one."""
        with self._lock:
            active = self._active.pop(planned.id, None)
            self._tally.count(planned, status, seconds / active.together if active else seconds)
        if status not in DONE or reason:
            self._live.console.print(_problem(planned, status, reason))

    def __rich__(self) -> RenderableType:
        """The current picture."""
        with self._lock:
            return self._picture()

    def _picture(self) -> RenderableType:
        tally, running = self._tally, list(self._active.values())
        looks = [active.look(tally.estimate(active.planned)) for active in running]
        left = tally.remaining({a.planned.id: (look[1], a.together) for a, look in zip(running, looks, strict=True)})
        head = Text.assemble(
            (self._title, "bold"),
            "   ",
            (f"{tally.done}/{tally.total} done", "green"),
            f"  {len(running)} running",
            (f"  {tally.failed} failed", "red" if tally.failed else "dim"),
            f"   {duration(time.monotonic() - tally.began)} so far",
            f", about {duration(left)} to go" if left is not None and tally.done < tally.total else "",
        )
        bar = ProgressBar(total=max(tally.total, 1), completed=tally.done + tally.failed, width=None)
        if not running:
            return Group(head, bar)
        table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
        for name in ("cell", "pair", "seed", "epoch", "", "score", "to go"):
            number = name in ("seed", "epoch", "score", "to go")
            table.add_column(name, justify="right" if number else "left", no_wrap=True, ratio=None if name else 1)
        for active, look in zip(running, looks, strict=True):
            table.add_row(*_cells(active.planned, *look))
        return Group(head, bar, table)


class PlainDisplay:
    """One line when a cell starts and one when it ends; for logs.

    Args:
        plan: what is to be done.
        title: of the suite.
        console: where to write.
    """

    def __init__(self, plan: Plan, title: str, console: Console) -> None:
        self._tally = _Tally(plan)
        self._console = console
        self._line(f"{title}: {self._tally.done}/{self._tally.total} done")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to draw."""

    def started(self, planned: PlannedCell, folder: WorkFolder, together: int = 1) -> None:
        """A cell's training began; its worker trains so many cells, itself included."""
        self._line(f"start  {planned.id}  {_name(planned)}" + (f"  one of {together}" if together > 1 else ""))

    def ended(self, planned: PlannedCell, status: str, reason: str | None, seconds: float) -> None:
        """An attempt ended, or the cell was settled without one."""
        self._tally.count(planned, status, seconds)
        count = f"[{self._tally.done + self._tally.failed}/{self._tally.total}]"
        because = f": {reason}" if reason else ""
        self._line(f"{status:6s} {planned.id}  {_name(planned)}  {duration(seconds)}  {count}{because}")

    def _line(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


Shown = LiveDisplay | PlainDisplay


def display_for(plan: Plan, title: str, console: Console) -> Shown:
    """The live table on a terminal, plain lines elsewhere."""
    return LiveDisplay(plan, title, console) if console.is_terminal else PlainDisplay(plan, title, console)


class _Tally:
    """Counts of a run, and how long the rest will take."""

    def __init__(self, plan: Plan) -> None:
        self._workers = plan.workers
        everything = [row for row in (*plan.artefacts, *plan.rows) if row.state not in ("not needed", "left out")]
        self.total = len(everything)
        self.began = time.monotonic()
        self._open = {row.planned.id: row for row in everything if row.open}
        self._status = Counter("ok" if row.state == "done" else "error" for row in everything if not row.open)
        self._took: dict[tuple[str, ...], float] = {}

    @property
    def done(self) -> int:
        return sum(count for status, count in self._status.items() if status in DONE)

    @property
    def failed(self) -> int:
        return sum(count for status, count in self._status.items() if status not in DONE)

    def count(self, planned: PlannedCell, status: str, seconds: float) -> None:
        if status in ("retry", "interrupted"):  # it is still to be done
            return
        self._open.pop(planned.id, None)
        self._status[status] += 1
        if status == "ok" and seconds > 0:
            self._took[_kind(planned)] = seconds

    def estimate(self, planned: PlannedCell) -> float | None:
        """Seconds for one cell: what one like it took in this run, or else what the plan says."""
        row = self._open.get(planned.id)
        return self._took.get(_kind(planned), row.seconds if row else None)

    def remaining(self, running: Mapping[str, tuple[float | None, int]]) -> float | None:
        """Seconds until all is done; None while too little is known.

        Args:
            running: id of each cell that runs to the seconds until it is done, and how many its worker trains.
        """
        waiting = [(self.estimate(row.planned), 1) for cell, row in self._open.items() if cell not in running]
        everything = [*running.values(), *waiting]
        known = [seconds / together for seconds, together in everything if seconds is not None]
        if not known:
            return None
        mean = sum(known) / len(known)
        each = [(mean * together if seconds is None else seconds, together) for seconds, together in everything]
        work = sum(seconds / together for seconds, together in each)
        return max(work / self._workers, *(seconds for seconds, _ in each))


def _kind(planned: PlannedCell) -> tuple[str, ...]:
    cell = planned.cell
    return (cell.benchmark, cell.protocol, str(cell.teacher), cell.student, cell.regime)


def _share(progress: dict[str, Any]) -> float:
    """Share of training done, from an epoch that may be fractional."""
    try:
        return min(float(progress["epoch"]) / float(progress["epochs"]), 1.0)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return 0.0


def _cells(planned: PlannedCell, found: dict[str, Any], left: float | None) -> list[RenderableType]:
    cell, score = planned.cell, found.get("score")
    return [
        Text(planned.label),
        Text(cell.pair, style="dim"),
        str(cell.seed),
        f"{found['epoch']}/{found['epochs']}" if "epochs" in found else "-",
        ProgressBar(total=1.0, completed=_share(found)),
        f"{score:.2f}" if isinstance(score, int | float) else "-",
        duration(left) if left is not None else "-",
    ]


def _name(planned: PlannedCell) -> str:
    cell = planned.cell
    return f"{cell.regime} {cell.pair}  {planned.label}  seed {cell.seed}"


def _problem(planned: PlannedCell, status: str, reason: str | None) -> Text:
    style = {"skipped": "yellow", "retry": "yellow"}.get(status, "red")
    return Text.assemble((f"{status} ", style), f"{_name(planned)}  ", (f"{reason or ''}  ", ""), (planned.id, "dim"))
