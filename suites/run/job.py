"""``python -m suites.run.job STORE SUBMISSION ARRAY NUMBER``: what one job of a cluster does on its node.

It is the runner with the local executor over the cells of one list: verdicts, retries, resuming and records are what
they are elsewhere. It heeds two signals. SIGUSR2, which the cluster sends when it wants the node back or the time is
nearly over: keep a checkpoint, and have the job started again. SIGTERM: keep a checkpoint and end, for somebody
cancelled the job.
"""

from __future__ import annotations

import argparse
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType

from rich.console import Console

from adm_core.errors import AdmError
from results.errors import RecordError
from results.records.schema import Record
from results.records.store import Store
from suites.executors import registry
from suites.executors.base import ExecutorOptions
from suites.executors.local import LocalExecutor
from suites.plan.groups import Groups, Room
from suites.plan.plan import Plan, PlanRow
from suites.run.display import PlainDisplay
from suites.run.ledger import Ledger
from suites.run.runner import Runner
from suites.run.submission import Journal, Submission, digest, read_submission
from suites.run.verdict import Verdict
from suites.spec.expand import PlannedCell, teacher_cell
from suites.work.folder import CHECKPOINT, Assignment, WorkFolder
from suites.work.options import RunOptions

IN_VAIN = 3
"""How often a job may begin a cell and be ended before a new checkpoint, until the cell is given up."""


class _Signals:
    """What this process was asked for; SIGUSR2 also does what SIGTERM does."""

    def __init__(self) -> None:
        self.end = self.again = False
        signal.signal(signal.SIGTERM, self._ask_end)
        signal.signal(signal.SIGUSR2, self._ask_again)

    def _ask_end(self, _number: int, _frame: FrameType | None) -> None:
        self.end = True

    def _ask_again(self, _number: int, _frame: FrameType | None) -> None:
        self.again = self.end = True
        signal.raise_signal(signal.SIGTERM)  # of which the runner takes care while it runs


class _Noting(PlainDisplay):
    """Plain lines, and the journal by which others see what became of cells."""

    def __init__(self, plan: Plan, title: str, console: Console, journal: Journal) -> None:
        super().__init__(plan, title, console)
        self._journal = journal

    def started(self, planned: PlannedCell, folder: WorkFolder, together: int = 1) -> None:
        """A cell's training began."""
        self._journal.add("begun", planned.id, _stamp(folder))
        super().started(planned, folder, together)

    def ended(self, planned: PlannedCell, status: str, reason: str | None, seconds: float) -> None:
        """An attempt ended, or the cell was settled without one."""
        super().ended(planned, status, reason, seconds)
        if status != "retry":
            self._journal.add("ended", planned.id)


def run_list(store: Store, submission: Submission, index: int, executor: type[LocalExecutor]) -> bool:
    """Train the cells of a list that this submission has not settled yet.

    Args:
        store: where they lie.
        submission: of which the list is.
        index: of the list.
        executor: that trains them.

    Returns:
        Whether the job is to be started again.

    Raises:
        AdmError: files of the store are missing or damaged, or there is no such device here.
        RecordError: a record cannot be written.
    """
    signals, journal = _Signals(), Journal(store.root, submission.name, index)
    console = Console(file=sys.stdout, width=1000, highlight=False)
    assignments = {cell: WorkFolder.of(store.root, cell).assignment() for cell in submission.lists[index]}
    records, unreadable = store.records(assignments)
    cells = [
        _planned(store, assignment, submission.suite)
        for cell, assignment in assignments.items()
        if not _is_settled(store, submission, cell, records.get(cell))
    ]
    cells = _without_untrained_teachers(store, cells, submission, journal)
    if not cells:
        print("nothing to do")
        return False
    options = assignments[cells[0].id].options
    place = executor.from_options(_executor_options(submission, options))
    room = Room(submission.group, place.memory(options.device))
    plan = Plan(
        artefacts=(),
        rows=tuple(PlanRow(cell, "to do", "", None, open=True) for cell in cells),
        workers=place.slots,
        records=records,
        unreadable={fault.cell_id: str(fault) for fault in unreadable if fault.cell_id},
        groups=Groups.of(room, cells, lambda planned: submission.peaks.get(planned.id)),
    )
    given_up = _given_up(store, plan, journal)
    plan = replace(plan, rows=tuple(row for row in plan.rows if row.planned.id not in given_up))
    display = _Noting(plan, submission.suite, console, journal)
    if plan.rows and not signals.end:
        Runner(plan, store, place, options, display).run()
    return signals.again


def _planned(store: Store, assignment: Assignment, suite: str) -> PlannedCell:
    """A cell as it was submitted."""
    cell, alone = assignment.cell, teacher_cell(assignment.cell)
    teacher = _planned(store, WorkFolder.of(store.root, alone.id).assignment(), suite) if alone else None
    return PlannedCell(cell, assignment.protocol, cell.method_name, suite, teacher)


def _is_settled(store: Store, submission: Submission, cell: str, record: Record | None) -> bool:
    """Whether a cell has got a record since it was submitted, by an earlier start of this job or by others."""
    if record is None or record.status == "interrupted":
        return False
    return digest(store, cell) != submission.before.get(cell)


def _without_untrained_teachers(
    store: Store, cells: list[PlannedCell], submission: Submission, journal: Journal
) -> list[PlannedCell]:
    """Leave out cells whose teacher's training was not brought to an end: they are submitted again behind it."""
    teachers = {cell.teacher.id for cell in cells if cell.teacher}
    known = {id for id, record in store.records(teachers)[0].items() if record.status != "interrupted"}
    kept = [cell for cell in cells if cell.teacher is None or cell.teacher.id in known]
    for cell in cells:
        if cell not in kept:
            print(f"left   {cell.id}: its teacher is not trained yet; run {submission.suite} again")
            journal.add("left", cell.id)
    return kept


def _given_up(store: Store, plan: Plan, journal: Journal) -> set[str]:
    """Write the records of cells that take their node with them, and return their ids."""
    ledger, given_up = Ledger(plan, store), set()
    for row in plan.rows:
        folder = WorkFolder.of(store.root, row.planned.id)
        in_vain = journal.in_vain(row.planned.id, _stamp(folder)) >= IN_VAIN
        if in_vain and not ledger.left_behind(row.planned, folder):
            reason = f"its job was ended {IN_VAIN} times without notice before it got to a new checkpoint"
            print(f"error  {row.planned.id}: {reason}")
            ledger.write(row.planned, Verdict("error", reason), None, 0.0)
            journal.add("ended", row.planned.id)
            given_up.add(row.planned.id)
    return given_up


def _stamp(folder: WorkFolder) -> int:
    """What tells a cell's checkpoint from an earlier one; 0: it has none."""
    try:
        return (folder.path / CHECKPOINT).stat().st_mtime_ns
    except OSError:
        return 0


def _executor_options(submission: Submission, options: RunOptions) -> ExecutorOptions:
    """One worker per GPU of the job, or one: what else runs on the node is not ours to fill."""
    from suites.executors.gpus import gpus

    alone = submission.per_gpu is None and (options.device == "cpu" or not gpus())
    workers = submission.workers or (1 if alone else None)
    terms = (submission.per_gpu, submission.timeout, options.gpus_per_cell)
    return ExecutorOptions(options.device, workers, *terms)


def main(arguments: list[str] | None = None, executor: type[LocalExecutor] = LocalExecutor) -> int:
    """Train the cells of a job; exit status 0 also where some failed, of which their records tell.

    Args:
        arguments: command line; default: the process's own.
        executor: that trains them.
    """
    parser = argparse.ArgumentParser(prog="suites.run.job", description="Train the cells of one job of a cluster.")
    parser.add_argument("store", type=Path)
    parser.add_argument("submission")
    parser.add_argument("array", type=int, help="first list of the array")
    parser.add_argument("number", type=int, help="of the job in it")
    given = parser.parse_args(arguments)
    try:
        submission = read_submission(given.store, given.submission)
        again = run_list(Store(given.store), submission, given.array + given.number, executor)
        if again:
            registry.queue(submission.queue).from_options(None).requeue()
    except (AdmError, RecordError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
