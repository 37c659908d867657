"""Submitting to a cluster what a suite still lacks and no job has: teachers first, what waits for them behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from results.records.store import Store
from suites.executors.base import Queue, QueuedJob
from suites.plan.groups import Groups, in_order
from suites.plan.plan import Elsewhere, Plan, PlanRow
from suites.run.ledger import Ledger
from suites.run.submission import Submission, chunks, digest, folder_of, new_name
from suites.run.verdict import Verdict
from suites.run.whereabouts import Lookout, alone, log_file
from suites.spec.expand import PlannedCell
from suites.work.folder import Assignment, WorkFolder
from suites.work.options import RunOptions

TRIES = 3
"""Jobs that may be lost with a cell before it gets a record that says so."""


@dataclass(frozen=True)
class Terms:
    """How cells are put into jobs, and how a job trains them.

    Attributes:
        cells_per_job: how many at most; None: as many as are trained together.
        group: how many a worker may train together; None: as many as fit, of those in a job.
        workers: how many workers a job has at once; None: one per GPU that it got, or one.
        per_gpu: how many on each GPU.
        timeout: seconds for each cell.
    """

    cells_per_job: int | None = None
    group: int | None = None
    workers: int | None = None
    per_gpu: int | None = None
    timeout: float | None = None

    @property
    def size(self) -> int:
        """How many cells a job has at most."""
        return self.cells_per_job or self.group or 1


@dataclass(frozen=True)
class Submitted:
    """What was done.

    Attributes:
        plan: what it was done for.
        cells: ids of those that were submitted.
        jobs: ids of the jobs, in order.
        given_up: ids of the cells that were lost too often and have a record now that says so.
    """

    plan: Plan
    cells: tuple[str, ...]
    jobs: tuple[str, ...]
    given_up: tuple[str, ...]


Planning = Callable[[Mapping[str, Elsewhere]], Plan]
"""Makes the plan of a suite once it is known where its cells are."""


class Submitter:
    """Submits the cells of one suite.

    Args:
        suite: its name.
        store: where records go; its path is the same on all nodes.
        queue: of the cluster.
        options: of the workers.
        terms: how cells are put into jobs.
    """

    def __init__(self, suite: str, store: Store, queue: Queue, options: RunOptions, terms: Terms) -> None:
        self._suite, self._store, self._queue = suite, store, queue
        self._options, self._terms = options, terms
        self._lookout = Lookout(store, [queue])
        self._tries: Counter[str] = Counter()
        self._before: dict[str, str | None] = {}

    def submit(self, planning: Planning) -> Submitted:
        """Submit what is neither done nor in a live job, nor lost too often.

        When it is called again, cells are submitted again that have no new record or were interrupted, unless somebody
        cancelled their job.

        Args:
            planning: makes the plan.

        Raises:
            AdmError: the queue refuses; what it took before is kept.
        """
        with alone(self._store.root):
            whereabouts, lost = self._lookout.settle()
            plan = planning(whereabouts.cells)
            waiting = [row for row in plan.open if row.state not in ("running", "queued")]
            given_up = self._give_up(plan, waiting, lost)
            cells = in_order(
                row.planned
                for row in waiting
                if row.planned.id not in given_up and self._is_due(row, whereabouts.cancelled)
            )
            jobs = self._submit(cells, plan, whereabouts.live) if cells else []
        return Submitted(plan, tuple(each.id for each in cells), tuple(jobs), tuple(given_up))

    def _is_due(self, row: PlanRow, cancelled: Collection[str]) -> bool:
        """Whether a cell is to be submitted (again) by this run."""
        cell = row.planned.id
        if not self._tries[cell]:
            return True
        if cell in cancelled:
            return False
        if digest(self._store, cell) != self._before[cell]:
            return row.state != "failed"  # an interrupted one has got further
        return self._tries[cell] < TRIES

    def _give_up(self, plan: Plan, waiting: Iterable[PlanRow], lost: Mapping[str, tuple[int, str]]) -> list[str]:
        """Write the records of cells that were lost too often."""
        ledger, given_up = Ledger(plan, self._store), []
        for planned in (row.planned for row in waiting):
            times, told = lost.get(planned.id, (0, ""))
            work = WorkFolder.of(self._store.root, planned.id)
            if times >= TRIES and not ledger.left_behind(planned, work):
                reason = f"lost with {times} jobs one after the other, of the last: {told}"
                ledger.write(planned, Verdict("error", reason), None, 0.0)
                given_up.append(planned.id)
        return given_up

    def _submit(self, cells: list[PlannedCell], plan: Plan, live: Mapping[str, QueuedJob]) -> list[str]:
        batches = list(self._batches(cells, plan.groups, live))
        listed = [each for _, made in batches for each in made]
        before = {cell.id: digest(self._store, cell.id) for cell in cells}
        submission = Submission(
            name=new_name(),
            suite=self._suite,
            queue=self._queue.name,
            lists=tuple(tuple(planned.id for planned in each) for each in listed),
            arrays=tuple(chunks([len(made) for _, made in batches], self._queue.largest())),
            before={cell: found for cell, found in before.items() if found},
            peaks={cell.id: plan.groups.peaks[cell.id] for cell in cells if cell.id in plan.groups.peaks},
            group=self._terms.group,
            workers=self._terms.workers,
            per_gpu=self._terms.per_gpu,
            timeout=self._terms.timeout,
        )
        self._assign(cells)
        submission.write(self._store.root)
        ids = self._queue_up(submission, batches, live)
        self._tries.update(before.keys())
        self._before |= before
        return ids

    def _batches(
        self, cells: list[PlannedCell], groups: Groups, live: Mapping[str, QueuedJob]
    ) -> Iterator[tuple[str | None, list[list[PlannedCell]]]]:
        """Lists of cells by the teacher for which they wait: first teachers, each alone, then what waits for none."""
        coming = {cell.id for cell in cells} | live.keys()
        teachers = {cell.teacher.id for cell in cells if cell.teacher}
        if first := [[cell] for cell in cells if cell.id in teachers]:
            yield None, first
        behind: dict[str | None, list[PlannedCell]] = {None: []}
        for cell in cells:
            if cell.id not in teachers:
                teacher = cell.teacher.id if cell.teacher and cell.teacher.id in coming else None
                behind.setdefault(teacher, []).append(cell)
        for teacher, members in behind.items():
            if members:
                yield teacher, list(lists(members, groups, self._terms.size))

    def _assign(self, cells: Iterable[PlannedCell]) -> None:
        """Write what the jobs read of cells, and of teachers that were trained before."""
        teachers = {cell.teacher.id: cell.teacher for cell in cells if cell.teacher}
        for planned in (*teachers.values(), *cells):
            work = WorkFolder.of(self._store.root, planned.id)
            work.assign(Assignment(cell=planned.cell, protocol=planned.protocol, options=self._options))

    def _queue_up(
        self,
        submission: Submission,
        batches: list[tuple[str | None, list[list[PlannedCell]]]],
        live: Mapping[str, QueuedJob],
    ) -> list[str]:
        """Submit array after array; where the queue refuses one, only those before it stay in the submission."""
        root, ids = self._store.root, list[str]()
        job_of = {cell: job.id for cell, job in live.items()}
        after = [teacher for teacher, made in batches for _ in made]
        for array, end in submission.spans():
            command = ["-m", self._queue.module, str(root.absolute()), submission.name, str(array)]
            log = str(log_file(root.absolute(), submission, array, "{}"))
            teacher = after[array]
            try:
                made = self._queue.submit(
                    submission.job_name(array), command, end - array, log, job_of[teacher] if teacher else None
                )
            except BaseException:
                self._cut(submission, array)
                raise
            for listed, job in zip(submission.lists[array:end], made, strict=True):
                job_of |= dict.fromkeys(listed, job)
            ids += made
        return ids

    def _cut(self, submission: Submission, array: int) -> None:
        """Leave out of a submission what was not submitted."""
        kept = tuple(first for first in submission.arrays if first < array)
        if kept:
            submission.model_copy(update={"lists": submission.lists[:array], "arrays": kept}).write(self._store.root)
        else:
            (folder_of(self._store.root, submission.name) / "submission.json").unlink()


def lists(cells: Iterable[PlannedCell], groups: Groups, size: int) -> Iterator[list[PlannedCell]]:
    """Cells as jobs are given them: those that are trained together in one job, where they fit, and all in order.

    Args:
        cells: in order.
        groups: which of them may be trained together.
        size: how many a job has at most.
    """
    waiting = {cell.id: cell for cell in cells}
    while waiting:
        listed: list[PlannedCell] = []
        while waiting and len(listed) < size:
            first = waiting.pop(next(iter(waiting)))
            others = list(waiting.values()) if size > 1 and groups.keys.get(first.id) is not None else []
            members = groups.gather(first, others, size - len(listed))
            listed += members
            for member in members[1:]:
                del waiting[member.id]
        yield listed
