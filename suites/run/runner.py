"""The loop that trains what a suite still lacks: teachers first, every cell once, a record for every ending."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from results.records.store import Store
from suites.executors.base import Ending, Executor, Handle, Job, Member
from suites.plan.plan import Plan
from suites.run.ledger import Ledger
from suites.run.summary import Display, Summary
from suites.run.verdict import Verdict, judge
from suites.run.waiting import Waiting
from suites.spec.code import code_of
from suites.spec.expand import PlannedCell
from suites.work.folder import Assignment, WorkFolder
from suites.work.locks import CellLock, acquire
from suites.work.options import RunOptions

RETRIES = 2
PATIENCE_SECONDS = 15.0
"""How long workers may take for a last checkpoint once the run is to stop; a second signal ends the wait."""
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class _Taken:
    """A cell that is trained, its lock held by this process and by the worker."""

    planned: PlannedCell
    folder: WorkFolder
    lock: CellLock


@dataclass
class _Running:
    """A job, and those of its cells that have no verdict yet."""

    members: list[_Taken]
    together: int
    since: float
    handle: Handle


class Runner:
    """Trains a suite's cells on an executor and writes their records.

    Args:
        plan: what is to be trained, and together with what.
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
        self._ledger, self._waiting = Ledger(plan, store), Waiting(plan, executor.slots)
        self._running: list[_Running] = []
        self._stop = 0  # how often this process was asked to
        self._inside = False
        known = {row.planned.id: "ok" for row in plan.cells if not row.open}
        self.summary = Summary(self._teachers_elsewhere(plan) | known)

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
                    _release(running.members)
                self._running = []
        self.summary.interrupted = bool(self._stop)
        return self.summary

    def _advance(self) -> bool:
        """Collect what has ended and start what can start; whether anything happened."""
        happened = False
        for running in list(self._running):
            happened |= self._collect(running)
        if self._fail_fast and self.summary.failed:
            self._waiting.clear()
        if len(self._running) < self._executor.slots:
            most = self._waiting.share(lambda planned: self._teacher(planned) is not None)
            for planned in self._waiting:
                if len(self._running) >= self._executor.slots or self._stop:
                    break
                happened |= self._consider(planned, most)
        return happened

    def _collect(self, running: _Running) -> bool:
        """Conclude a job that has ended, or those cells of a group that are done before it; whether there was any."""
        ending = self._executor.poll(running.handle)
        if ending is not None:
            self._conclude_all(running, running.members, ending)
            return True
        done = [member for member in running.members if member.folder.outcome()] if running.together > 1 else []
        for member in done:
            self._conclude(running, member, Ending(0, time.monotonic() - running.since))
        return bool(done)

    def _consider(self, planned: PlannedCell, most: int) -> bool:
        """Start a waiting cell and others with it, or settle it where that needs no training; whether either happened.

        Args:
            planned: the cell.
            most: how many may be started together.
        """
        members: list[_Taken] = []

        def take(cell: PlannedCell) -> bool:
            taken = self._take(cell)
            members.extend([taken] if taken else [])
            return taken is not None

        try:
            if take(planned):
                self._waiting.gather(planned, most, take)
                self._start(members)
        except BaseException:
            _release(members)
            raise
        return bool(members) or planned.id in self.summary.statuses

    def _take(self, planned: PlannedCell) -> _Taken | None:
        """Take a cell out of those that wait, its lock held; None: it stays, or it is settled without training."""
        teacher = self._teacher(planned)
        lock = acquire(self._store.root, planned.id) if teacher is not None else None
        if teacher is None or lock is None:
            if teacher is not None:  # another runner is at it; its record is looked at once the lock is free
                self._waiting.is_elsewhere(planned)
            return None
        self._waiting.remove(planned)
        try:
            if not self._settle(planned, teacher):
                return _Taken(planned, self._folder(planned), lock)
        except BaseException:
            lock.release()
            raise
        lock.release()
        return None

    def _teachers_elsewhere(self, plan: Plan) -> dict[str, str]:
        """What became of the teachers that the plan says nothing of, by their records; without one they have failed."""
        own = {row.planned.id for row in plan.cells}
        teachers = {t.id: t for row in plan.open if (t := row.planned.teacher) and t.id not in own}
        found = {id: self._ledger.record(teacher) for id, teacher in teachers.items()}
        return {id: record.status if record else "error" for id, record in found.items()}

    def _teacher(self, planned: PlannedCell) -> str | None:
        """What became of a cell's teacher; None while that is not known. A cell that cannot run asks for none."""
        asked = None if planned.skipped else planned.teacher
        return self.summary.statuses.get(asked.id) if asked else "ok"

    def _settle(self, planned: PlannedCell, teacher: str) -> bool:
        """Deal with a cell that needs no training (any more); whether it was one."""
        if news := self._ledger.news(planned):
            self._tell(planned, news.status, news.reason, 0.0)
            return True
        if outcome := self._ledger.left_behind(planned, self._folder(planned)):
            self._write(planned, judge(Ending(0, 0.0), outcome), outcome, float(outcome.get("seconds", 0.0)))
            return True
        if verdict := self._ledger.untrained(planned, teacher):
            self._write(planned, verdict, {"code": code_of(planned.cell)}, 0.0)
            return True
        return False

    def _start(self, members: list[_Taken]) -> None:
        first = members[0].planned
        for member in members:
            planned, folder = member.planned, member.folder
            folder.forget_outcome()
            folder.assign(Assignment(cell=planned.cell, protocol=planned.protocol, options=self._options))
            if planned is not first:
                folder.note(f"trained together with {first.id}; what the worker prints: adm logs {first.id}")
            self._display.started(planned, folder, len(members))
        job = Job(
            first.cell.task,
            tuple(Member(member.folder, member.lock.descriptor) for member in members),
            first.protocol.recipe.kernels,
        )
        self._inside, since = True, time.monotonic()
        try:
            handle = self._executor.start(job)
        finally:
            self._inside = False
        self._running.append(_Running(members, len(members), since, handle))

    def _conclude_all(self, running: _Running, members: list[_Taken], ending: Ending) -> None:
        """Take leave of a job that has ended, with a verdict on some of the cells that had none yet."""
        self._running.remove(running)
        try:
            for member in list(members):
                self._conclude(running, member, ending)
        finally:
            _release(running.members)

    def _conclude(self, running: _Running, member: _Taken, ending: Ending) -> None:
        """Write the record of an attempt that ended, or put the cell back when it may not be its own fault."""
        planned, outcome = member.planned, member.folder.outcome()
        verdict = judge(ending, outcome, running.together)
        # The signal that stopped this process may have reached the worker.
        if self._stop and (verdict.infrastructure or verdict.of_group):
            verdict = Verdict("interrupted", verdict.reason)
        running.members.remove(member)
        try:
            again = verdict.infrastructure and self._ledger.attempts(planned) < RETRIES
            if verdict.of_group or again:
                self._ledger.failed(planned, verdict, outcome, ending.seconds)
                self._waiting.put_back(planned, max(running.together // 2, 1))
                self._display.ended(planned, "retry", verdict.reason, ending.seconds)
            else:
                self._write(planned, verdict, outcome, ending.seconds)
        finally:
            member.lock.release()

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
        if ending is None:  # of an executor that ends jobs later: the cells are resumed from their checkpoints
            return
        told = [m for m in running.members if m.folder.outcome() is not None or self._ledger.record(m.planned) is None]
        self._conclude_all(running, told, ending)

    def _write(self, planned: PlannedCell, verdict: Verdict, outcome: dict[str, Any] | None, seconds: float) -> None:
        made = self._ledger.write(planned, verdict, outcome, seconds)
        self._tell(planned, made.status, made.reason, seconds)

    def _tell(self, planned: PlannedCell, status: str, reason: str | None, seconds: float) -> None:
        self.summary.statuses[planned.id] = status
        self._display.ended(planned, status, reason, seconds)

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


def _release(members: list[_Taken]) -> None:
    for member in members:
        member.lock.release()
