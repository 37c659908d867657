"""Mirrors running cells to an experiment tracker, out of the curves that workers leave for it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from results.records.store import Store
from suites.run.summary import Display
from suites.run.trackers import Description, TrackedRun, Values
from suites.spec.code import code_of
from suites.spec.expand import PlannedCell
from suites.spec.protocols import resolved
from suites.work.folder import CHECKPOINT, WorkFolder

LOOK_SECONDS = 1.0
"""Between two looks at what workers have written."""
PAUSE_SECONDS = 60.0
"""How long a tracker that failed is left alone."""
PATIENCE_SECONDS = 60.0
"""How long the end of a run may take until a tracker has all of it."""


@dataclass
class _Followed:
    """An attempt at a cell.

    Attributes:
        resumes: whether it begins at a checkpoint, so that it goes on with an earlier attempt's run.
        status: what became of it; empty while it runs.
        run: the tracker's; None until there is something to tell.
    """

    planned: PlannedCell
    folder: WorkFolder
    resumes: bool
    status: str = ""
    run: TrackedRun | None = None
    bookmark: dict[str, Any] = field(default_factory=dict)


class Mirror:
    """A display that also keeps a tracker up to date, in a thread of its own. Use as a context manager.

    Workers must be told to leave their curves (:attr:`suites.work.options.RunOptions.curves`).

    A tracker that fails is warned of once, left alone for a minute and told then what it has missed; training goes on.

    Args:
        display: is told what happens as well.
        store: of the cells.
        suite: its name.
        name: of the tracker.
        kind: its runs.
        warn: takes a line for people.
    """

    def __init__(
        self, display: Display, store: Store, suite: str, name: str, kind: type[TrackedRun], warn: Callable[[str], None]
    ) -> None:
        self._display, self._store, self._suite = display, store, suite
        self._name, self._kind, self._warn = name, kind, warn
        self._followed: list[_Followed] = []
        self._lock, self._over = threading.Lock(), threading.Event()
        self._warned, self._not_before = False, 0.0
        self._thread = threading.Thread(target=self._follow, name="tracker", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(PATIENCE_SECONDS)
        if self._thread.is_alive():
            self._warn(f"tracker {self._name}: it takes too long; the last curves may be missing there")

    def started(self, planned: PlannedCell, folder: WorkFolder, together: int = 1) -> None:
        """A cell's training began; its worker trains so many cells, itself included."""
        attempt = _Followed(planned, folder, resumes=(folder.path / CHECKPOINT).exists())
        with self._lock:
            self._followed.append(attempt)
        self._display.started(planned, folder, together)

    def ended(self, planned: PlannedCell, status: str, reason: str | None, seconds: float) -> None:
        """An attempt ended, or the cell was settled without one."""
        with self._lock:
            for attempt in self._followed:
                if attempt.planned.id == planned.id and not attempt.status:
                    attempt.status = status
        self._display.ended(planned, status, reason, seconds)

    def _follow(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            if time.monotonic() >= self._not_before:
                self._look()
        self._look()

    def _look(self) -> None:
        """Bring the runs of all attempts up to date, in the order in which these began."""
        with self._lock:
            attempts = list(self._followed)
        try:
            for attempt in attempts:
                if self._bring_up_to_date(attempt):
                    with self._lock:
                        self._followed.remove(attempt)
        except Exception as error:  # a tracker's package may raise anything
            self._not_before = time.monotonic() + PAUSE_SECONDS
            if not self._warned:
                self._warned = True
                told = (str(error).splitlines() or [""])[0]
                self._warn(
                    f"tracker {self._name}: {type(error).__name__}: {told}; training goes on, "
                    "and what is missing there is sent once it answers again"
                )

    def _bring_up_to_date(self, attempt: _Followed) -> bool:
        """Tell the tracker what is new of an attempt; whether nothing can come any more."""
        status, scores = attempt.status, dict[str, float]()  # read first: what it ended with is then in the files
        curves = attempt.folder.curves()
        if status == "ok":
            record = self._store.read_record(attempt.planned.id)
            curves = record.curves if record else curves
            scores = _scores(record.scores) if record else scores
        if curves or status not in ("", "retry", "interrupted"):  # of those it has its curves to tell, if any
            attempt.run = attempt.run or self._begin(attempt)
            self._log(attempt, curves)
        if status and attempt.run:
            attempt.run.end(status, scores)
        return bool(status)

    def _begin(self, attempt: _Followed) -> TrackedRun:
        planned, code = attempt.planned, code_of(attempt.planned.cell)
        own = attempt.folder.bookmarks().get(self._name, {})
        if not attempt.resumes or own.get("code") != code:  # it was, or will be, trained from the beginning
            own = {"key": secrets.token_hex(4), "code": code, "epoch": 0}
        attempt.bookmark = own
        name = f"{self._suite} / {planned.label} / {planned.cell.pair} / seed {planned.cell.seed}"
        return self._kind(Description(self._suite, name, own["key"], _config(planned), self._store.root))

    def _log(self, attempt: _Followed, curves: Mapping[str, list[float | None]]) -> None:
        """Tell the epochs that the run lacks; the bookmark goes with each, so that none is told twice."""
        assert attempt.run is not None
        for epoch in range(attempt.bookmark["epoch"], len(curves.get("epoch", ()))):
            attempt.run.log(epoch + 1, _values(curves, epoch))
            attempt.bookmark["epoch"] = epoch + 1
        attempt.folder.set_bookmark(self._name, attempt.bookmark)


def _values(curves: Mapping[str, list[float | None]], epoch: int) -> Values:
    """An epoch's values; of a curve that has none there is none."""
    columns = {name.replace(".", "/", 1): column[epoch] for name, column in curves.items() if name != "epoch"}
    return {name: value for name, value in columns.items() if value is not None}


def _scores(scores: Mapping[str, Mapping[str, float | None]]) -> dict[str, float]:
    found = {f"test/{role}.{metric}": value for role, part in scores.items() for metric, value in part.items()}
    return {name: value for name, value in found.items() if value is not None}


def _config(planned: PlannedCell) -> dict[str, Any]:
    """What a cell is, under the names that people know it by."""
    cell = planned.cell
    return {
        "cell": cell.id, "block": planned.block, "row": planned.label, "benchmark": cell.benchmark,
        "condition": str(cell.condition or ""), "regime": cell.regime, "pair": cell.pair, "seed": cell.seed,
        "method": {part.name: {"version": part.version, **part.settings} for part in cell.method},
        "protocol": resolved(cell.protocol, planned.protocol),
    }  # fmt: skip
