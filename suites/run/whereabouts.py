"""Where the cells of a store are that were submitted to a cluster, and what was lost there."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from adm_core.errors import AdmError
from results.records.store import Store
from suites.executors import registry
from suites.executors.base import Queue, QueuedJob
from suites.plan.plan import Elsewhere
from suites.run.submission import Ended, Journal, Submission, digest, folder_of, submissions
from suites.work.locks import acquire, is_held

SUBMITTING = "submission"
"""The lock of a store that whoever submits holds, so that no cell is submitted twice."""


@dataclass(frozen=True)
class Whereabouts:
    """What a cluster is about with the cells of a store.

    Attributes:
        cells: cell id to what is known of it, of cells in live jobs and of lost ones.
        live: cell id to the job that waits or runs.
        cancelled: ids of the cells whose last job somebody ended on purpose.
        remark: why nothing is known, where a queue does not answer; empty otherwise.
    """

    cells: Mapping[str, Elsewhere] = field(default_factory=dict)
    live: Mapping[str, QueuedJob] = field(default_factory=dict)
    cancelled: frozenset[str] = frozenset()
    remark: str = ""


class Lookout:
    """Looks at the submissions of a store and asks their queues.

    Args:
        store: the store.
        queues: those that are at hand; others are made by their names.
    """

    def __init__(self, store: Store, queues: Iterable[Queue] = ()) -> None:
        self._store = store
        self._queues = {queue.name: queue for queue in queues}
        self._answers: dict[str, tuple[float, Mapping[tuple[str, int], QueuedJob]]] = {}
        self._submitted: set[str] = set()

    def look(self) -> Whereabouts:
        """Where cells are, by what the queues told at most :attr:`Queue.patience` seconds ago.

        What cannot be told is a remark.
        """
        try:
            found = submissions(self._store.root)
            if self._submitted != (names := {each.name for each in found}):  # of new ones nothing was told yet
                self._answers, self._submitted = {}, names
            busy = bool(found) and is_held(self._store.root, SUBMITTING)
            return self._whereabouts(found, busy)
        except AdmError as error:
            return Whereabouts(remark=str(error))

    def settle(self) -> tuple[Whereabouts, Mapping[str, tuple[int, str]]]:
        """Where cells are, and the lost ones with how often they were lost and how the last job ended.

        Jobs that have ended are noted as such in their submissions. To be called by whoever holds the lock of
        :data:`SUBMITTING`.

        Raises:
            AdmError: a queue does not answer, or a submission is damaged or cannot be written.
        """
        self._answers = {}
        found = [self._note_ended(each) for each in submissions(self._store.root)]
        return self._whereabouts(found, busy=False), self._lost(found)

    def cancel(self, suite: str) -> list[str]:
        """Cancel the jobs of a suite that wait or run.

        Returns:
            Their ids.

        Raises:
            AdmError: a queue does not answer, or a submission is damaged.
        """
        ids: dict[str, list[str]] = {}
        with alone(self._store.root):
            self._answers = {}
            for submission in submissions(self._store.root):
                if submission.suite == suite:
                    live = [job.id for job in self._jobs(submission).values() if job and not job.ended]
                    ids.setdefault(submission.queue, []).extend(live)
            for name, jobs in ids.items():
                self.queue(name).cancel(jobs)
        return [id for jobs in ids.values() for id in jobs]

    def queue(self, name: str) -> Queue:
        """A queue by its name.

        Raises:
            AdmError: there is none here.
        """
        if name not in self._queues:
            self._queues[name] = registry.queue(name).from_options(None)
        return self._queues[name]

    def _whereabouts(self, found: Iterable[Submission], busy: bool) -> Whereabouts:
        cells: dict[str, Elsewhere] = {}
        live: dict[str, QueuedJob] = {}
        cancelled: set[str] = set()
        for submission in found:
            jobs = self._jobs(submission)
            for index, job in jobs.items():
                listed = submission.lists[index]
                for cell in listed:  # what a later submission says of it stands in place of an earlier one's
                    cells.pop(cell, None)
                    live.pop(cell, None)
                cancelled -= {*listed}
                if job is not None and not job.ended:
                    begun = Journal(self._store.root, submission.name, index).under_way() if job.node else set()
                    cells |= {cell: Elsewhere("running" if cell in begun else "queued", str(job)) for cell in listed}
                    live |= dict.fromkeys(listed, job)
                elif not busy:
                    ended = self._ended(submission, index, job)
                    cells |= {cell: Elsewhere("lost", ended.told) for cell in ended.lost}
                    cancelled |= {*listed} if ended.cancelled else set()
        return Whereabouts(cells, live, frozenset(cancelled))

    def _jobs(self, submission: Submission) -> dict[int, QueuedJob | None]:
        """What the queue says of the jobs of a submission that have not been found ended."""
        left = [(index, key) for index, key in submission.jobs() if index not in submission.ended]
        if not left:
            return dict.fromkeys(submission.ended)
        known = dict(self._asked(submission.queue))
        for name in {key[0] for _, key in left if key not in known}:
            known = {**self.queue(submission.queue).recall(name), **known}
        return {index: known.get(key) for index, key in left} | dict.fromkeys(submission.ended)

    def _asked(self, queue: str) -> Mapping[tuple[str, int], QueuedJob]:
        """What a queue tells, or told a short while ago."""
        at = self.queue(queue)
        if queue not in self._answers or time.monotonic() > self._answers[queue][0] + at.patience:
            self._answers[queue] = time.monotonic(), at.jobs()
        return self._answers[queue][1]

    def _ended(self, submission: Submission, index: int, job: QueuedJob | None) -> Ended:
        """How a job ended that is not live."""
        if index in submission.ended:
            noted = submission.ended[index]
            lost = tuple(cell for cell in noted.lost if self._is_as_before(submission, cell))
            return noted.model_copy(update={"lost": lost})
        told = str(job) if job else "its job is gone, and the cluster does not say how it ended"
        if job and job.cancelled:
            return Ended(told=told, cancelled=True)
        journal = Journal(self._store.root, submission.name, index)
        unbegun = submission.lists[index] if job else ()  # somebody may have cancelled a job that nobody remembers
        at_risk = journal.under_way() if journal.lines() else unbegun
        return Ended(told=told, lost=tuple(cell for cell in at_risk if self._is_as_before(submission, cell)))

    def _is_as_before(self, submission: Submission, cell: str) -> bool:
        """Whether a cell's record is what it was when the cell was submitted."""
        return digest(self._store, cell) == submission.before.get(cell)

    def _note_ended(self, submission: Submission) -> Submission:
        jobs = self._jobs(submission)
        ended = {
            index: self._ended(submission, index, job)
            for index, job in jobs.items()
            if index not in submission.ended and (job is None or job.ended)
        }
        if not ended:
            return submission
        noted = submission.model_copy(update={"ended": submission.ended | ended})
        noted.write(self._store.root)
        return noted

    def _lost(self, found: Iterable[Submission]) -> dict[str, tuple[int, str]]:
        times: Counter[str] = Counter()
        last: dict[str, str] = {}
        for submission in found:
            for index in submission.ended:
                ended = self._ended(submission, index, None)
                times.update(ended.lost)
                last |= dict.fromkeys(ended.lost, ended.told)
        return {cell: (times[cell], told) for cell, told in last.items()}


@contextmanager
def alone(store: Path) -> Iterator[None]:
    """Wait until nobody else submits from a store, and keep others out."""
    while (lock := acquire(store, SUBMITTING)) is None:
        time.sleep(0.1)
    try:
        yield
    finally:
        lock.release()


def logs_of(store: Path, cell: str) -> list[Path]:
    """The files in which a cluster's jobs printed that were given a cell, in order of time."""
    return [
        file
        for submission in submissions(store)
        for index, (name, number) in submission.jobs()
        if cell in submission.lists[index]
        if (file := log_file(store, submission, int(name.rpartition("-")[2]), number)).is_file()
    ]


def log_file(store: Path, submission: Submission, array: int, number: int | str) -> Path:
    """Where a job prints."""
    return folder_of(store, submission.name) / f"{array}-{number}.log"
