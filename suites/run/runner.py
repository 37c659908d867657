"""The loop that trains what a suite still lacks: teachers first, every cell once, a record for every ending."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

from results.records.schema import Attempt, Record
from results.records.store import Store
from suites.executors.base import Ending, Executor, Handle, Job
from suites.plan.plan import DONE, Plan, weights_exist
from suites.run.verdict import Verdict, judge, make_record
from suites.spec.code import code_of, differing
from suites.spec.expand import PlannedCell
from suites.spec.protocols import resolved
from suites.work.folder import Assignment, WorkFolder
from suites.work.locks import CellLock, acquire
from suites.work.options import RunOptions

RETRIES = 2
PATIENCE_SECONDS = 15.0
"""How long workers may take for a last checkpoint once the run is to stop; a second signal ends the wait."""
_POLL_SECONDS = 0.1


class Display(Protocol):
    """What is told about a run while it goes on."""

    def started(self, planned: PlannedCell, folder: WorkFolder) -> None:
        """A cell's training began."""

    def ended(self, planned: PlannedCell, status: str, reason: str | None, seconds: float) -> None:
        """An attempt at a cell ended, or the cell was settled without one; status ``retry``: it is tried again."""


@dataclass
class Summary:
    """What became of a run.

    Attributes:
        statuses: cell id to the status of its record, as far as the run came.
        interrupted: it was stopped by a signal.
    """

    statuses: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def failed(self) -> list[str]:
        """Ids of the cells that are not done."""
        return [cell for cell, status in self.statuses.items() if status not in DONE]

    @property
    def exit_code(self) -> int:
        """0: all done; 1: some cells failed; 130: interrupted."""
        return 130 if self.interrupted else int(bool(self.failed))


@dataclass
class _Running:
    planned: PlannedCell
    folder: WorkFolder
    lock: CellLock
    handle: Handle


class Runner:
    """Trains a suite's cells on an executor and writes their records.

    Args:
        plan: what is to be trained.
        store: where records go.
        executor: where workers run.
        options: what workers are told.
        display: is told what happens.
        fail_fast: start nothing more after the first failure.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        executor: Executor,
        options: RunOptions,
        display: Display,
        fail_fast: bool = False,
    ) -> None:
        self._store, self._executor, self._options, self._display = store, executor, options, display
        self._fail_fast = fail_fast
        self._before, self._unreadable = plan.records, plan.unreadable
        # One seed of everything before the next seed: a table that is stopped early compares all methods.
        self._waiting = sorted(
            (row.planned for row in plan.open),
            key=lambda planned: (planned.cell.regime != "alone", planned.cell.seed),
        )
        self._running: list[_Running] = []
        self._attempts: dict[str, list[Attempt]] = {}
        self._stop = 0  # how often this process was asked to
        self._inside = False
        self.summary = Summary({row.planned.id: "ok" for row in plan.cells if not row.open})

    def run(self) -> Summary:
        """Train until nothing is left that can be trained.

        Raises:
            RecordError: a record cannot be written; the outcome is kept, and the next run takes it up.
        """
        with self._signals():
            try:
                while (self._waiting or self._running) and not self._stop:
                    if not self._advance():
                        time.sleep(_POLL_SECONDS)
            except BaseException:
                for running in self._running:
                    self._executor.kill(running.handle)
                raise
            else:
                self._interrupt_all()
            finally:
                self._executor.close()
                for running in self._running:  # what a failure or an executor that ends jobs later has left here
                    running.lock.release()
                self._running = []
        self.summary.interrupted = bool(self._stop)
        return self.summary

    def _advance(self) -> bool:
        """Collect what has ended and start what can start; whether anything happened."""
        happened = False
        for running in list(self._running):
            ending = self._executor.poll(running.handle)
            if ending is not None:
                self._conclude(running, ending)
                happened = True
        if self._fail_fast and self.summary.failed:
            self._waiting = []
        for planned in list(self._waiting):
            if len(self._running) >= self._executor.slots or self._stop:
                break
            happened |= self._consider(planned)
        return happened

    def _consider(self, planned: PlannedCell) -> bool:
        """Start a waiting cell, or settle it where that needs no training; whether either happened."""
        teacher = self.summary.statuses.get(planned.teacher.id) if planned.teacher else "ok"
        if teacher is None:
            return False
        lock = acquire(self._store.root, planned.id)
        if lock is None:
            return False  # another runner is at it; its record is looked at once the lock is free
        self._waiting.remove(planned)
        try:
            if not self._settle(planned, teacher):
                self._start(planned, lock)
                return True
        except BaseException:
            lock.release()
            raise
        lock.release()
        return True

    def _settle(self, planned: PlannedCell, teacher: str) -> bool:
        """Deal with a cell that needs no training (any more); whether it was one."""
        folder = self._folder(planned)
        record = self._record(planned)
        news = record is not None and record != self._before.get(planned.id) and record.status != "interrupted"
        if record is not None and news and (record.status != "ok" or weights_exist(planned, self._store)):
            self._tell(planned, record.status, record.reason, 0.0)
            return True
        outcome = folder.outcome()
        if outcome and outcome.get("status") in DONE and self._takes_up(planned, record, outcome):
            self._write(planned, judge(Ending(0, 0.0), outcome), outcome, float(outcome.get("seconds", 0.0)))
            return True
        if teacher != "ok" and planned.teacher:
            failed = self._record(planned.teacher)
            reason = failed.reason if failed else "no record"
            told = f"teacher {planned.cell.teacher} failed: {teacher}: {reason}"
            self._write(planned, Verdict("error", told), None, 0.0)
            return True
        return False

    def _takes_up(self, planned: PlannedCell, record: Record | None, outcome: dict[str, Any]) -> bool:
        """Whether an outcome that was left behind is news: its runner ended before it could write the record."""
        if record is None or record.status not in DONE:
            return True
        return bool(differing(record.code, outcome.get("code", {}))) and outcome["code"] == code_of(planned.cell)

    def _start(self, planned: PlannedCell, lock: CellLock) -> None:
        folder = self._folder(planned)
        folder.forget_outcome()
        folder.assign(Assignment(cell=planned.cell, protocol=planned.protocol, options=self._options))
        self._display.started(planned, folder)
        self._inside = True
        try:
            kernels = planned.protocol.recipe.kernels
            handle = self._executor.start(Job(planned.id, planned.cell.task, folder, lock.descriptor, kernels))
        finally:
            self._inside = False
        self._running.append(_Running(planned, folder, lock, handle))

    def _conclude(self, running: _Running, ending: Ending) -> None:
        """Write the record of an attempt that ended, or put the cell back when the machine failed it."""
        outcome = running.folder.outcome()
        verdict = judge(ending, outcome)
        if self._stop and verdict.infrastructure:  # the signal that stopped this process may have reached the worker
            verdict = Verdict("interrupted", verdict.reason)
        planned = running.planned
        attempts = self._attempts.setdefault(planned.id, [])
        self._running.remove(running)
        try:
            if verdict.infrastructure and len(attempts) < RETRIES:
                attempts.append(_attempt(verdict, outcome, ending.seconds))
                self._waiting.insert(0, planned)
                self._display.ended(planned, "retry", verdict.reason, ending.seconds)
            else:
                self._write(planned, verdict, outcome, ending.seconds)
        finally:
            running.lock.release()

    def _interrupt_all(self) -> None:
        """End what runs, with a last checkpoint of each worker that can be asked for one."""
        asked = [running for running in self._running if self._executor.ask_to_stop(running.handle)]
        until, signals = time.monotonic() + PATIENCE_SECONDS, self._stop
        while asked and time.monotonic() < until and self._stop == signals:
            for running in asked:
                self._interrupted(running)
            asked = [running for running in asked if running in self._running]
            time.sleep(_POLL_SECONDS)
        for running in list(self._running):
            self._executor.kill(running.handle)
            self._interrupted(running)

    def _interrupted(self, running: _Running) -> None:
        """Take up how a job ended, if it has; an interrupted attempt leaves a record only where there is none yet."""
        ending = self._executor.poll(running.handle)
        if ending is None:  # of an executor that ends jobs later: the cell is resumed from its checkpoint
            return
        if running.folder.outcome() is not None or self._record(running.planned) is None:
            self._conclude(running, ending)
        else:
            self._running.remove(running)
            running.lock.release()

    def _write(self, planned: PlannedCell, verdict: Verdict, outcome: dict[str, Any] | None, seconds: float) -> None:
        earlier = self._before.get(planned.id)
        attempts = [*(earlier.attempts if earlier else ()), *self._attempts.get(planned.id, ())]
        made = record = make_record(planned, verdict, outcome, [*attempts, _attempt(verdict, outcome, seconds)])
        if earlier is not None and earlier.status == "ok":
            if made.status in DONE:
                self._store.keep_replaced(earlier)
            else:  # a score is not lost for an attempt that gave none
                record = earlier.model_copy(update={"attempts": made.attempts})
        if planned.id in self._unreadable and self._record(planned) is None:
            self._store.set_aside(planned.id)
        self._store.write_protocol(planned.cell.protocol_digest, resolved(planned.cell.protocol, planned.protocol))
        self._store.write_record(record)
        folder = self._folder(planned)
        folder.forget_outcome()
        if made.status in DONE:
            folder.tidy()
        self._tell(planned, made.status, made.reason, seconds)

    def _tell(self, planned: PlannedCell, status: str, reason: str | None, seconds: float) -> None:
        self.summary.statuses[planned.id] = status
        self._display.ended(planned, status, reason, seconds)

    def _record(self, planned: PlannedCell) -> Record | None:
        """The cell's record as it is now; None also where it cannot be read."""
        return self._store.records([planned.id])[0].get(planned.id)

    def _folder(self, planned: PlannedCell) -> WorkFolder:
        return WorkFolder.of(self._store.root, planned.id)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM ask the loop to stop; a blocking executor is broken off in the middle of a cell."""

        def ask(_number: int, _frame: FrameType | None) -> None:
            self._stop += 1
            if self._inside and self._executor.blocking:
                raise KeyboardInterrupt

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, ask) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _attempt(verdict: Verdict, outcome: dict[str, Any] | None, seconds: float) -> Attempt:
    reason = verdict.reason or (outcome or {}).get("remark")
    return Attempt(status=verdict.status, reason=reason, seconds=round(seconds, 3))
