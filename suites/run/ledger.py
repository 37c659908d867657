"""The records that a run finds and writes: what came of cells before it, beside it, and by it."""

from __future__ import annotations

from typing import Any

from results.records.schema import Attempt, Record
from results.records.store import Store
from suites.plan.plan import DONE, Plan, weights_exist
from suites.run.verdict import Verdict, make_record
from suites.spec.code import code_of, differing
from suites.spec.expand import PlannedCell
from suites.spec.protocols import resolved
from suites.work.folder import WorkFolder


class Ledger:
    """A run's view of the records of its cells.

    Args:
        plan: what is to be trained, with the records as they were when it was made.
        store: where records go.
    """

    def __init__(self, plan: Plan, store: Store) -> None:
        self._store = store
        self._before, self._unreadable = plan.records, plan.unreadable
        self._attempts: dict[str, list[Attempt]] = {}

    def record(self, planned: PlannedCell) -> Record | None:
        """The cell's record as it is now; None also where it cannot be read."""
        return self._store.records([planned.id])[0].get(planned.id)

    def news(self, planned: PlannedCell) -> Record | None:
        """The record of a cell that another runner has settled since the plan was made; None where none has."""
        record = self.record(planned)
        if record is None or record == self._before.get(planned.id) or record.status == "interrupted":
            return None
        return record if record.status != "ok" or weights_exist(planned, self._store) else None

    def left_behind(self, planned: PlannedCell, folder: WorkFolder) -> dict[str, Any] | None:
        """The outcome of a finished cell whose runner ended before it could write the record; None: there is none."""
        outcome, record = folder.outcome(), self.record(planned)
        if not outcome or outcome.get("status") not in DONE:
            return None
        if record is None or record.status not in DONE:
            return outcome
        others = differing(record.code, outcome.get("code", {}))
        return outcome if others and outcome["code"] == code_of(planned.cell) else None

    def untrained(self, planned: PlannedCell, teacher: str) -> Verdict | None:
        """What becomes of a cell that nothing is to be trained for: it cannot run, or has no teacher; None: neither.

        Args:
            planned: the cell.
            teacher: what became of its teacher.
        """
        if planned.skipped:
            return Verdict("skipped", planned.skipped)
        if teacher == "ok" or planned.teacher is None:
            return None
        failed = self.record(planned.teacher)
        reason = failed.reason if failed else "no record"
        return Verdict("error", f"teacher {planned.cell.teacher} failed: {teacher}: {reason}")

    def attempts(self, planned: PlannedCell) -> int:
        """How often this run has tried the cell in vain."""
        return len(self._attempts.get(planned.id, ()))

    def failed(self, planned: PlannedCell, verdict: Verdict, outcome: dict[str, Any] | None, seconds: float) -> None:
        """Keep an attempt after which the cell is tried again; its record tells it in the end."""
        self._attempts.setdefault(planned.id, []).append(_attempt(verdict, outcome, seconds))

    def write(self, planned: PlannedCell, verdict: Verdict, outcome: dict[str, Any] | None, seconds: float) -> Record:
        """Write the record of a cell, and leave in its work folder what a cell of that status needs.

        Returns:
            The record that was made; one that gave no score leaves an earlier one with a score in its place.

        Raises:
            RecordError: it cannot be written; the outcome is kept.
        """
        earlier = self._before.get(planned.id)
        attempts = [*(earlier.attempts if earlier else ()), *self._attempts.get(planned.id, ())]
        made = record = make_record(planned, verdict, outcome, [*attempts, _attempt(verdict, outcome, seconds)])
        if earlier is not None and earlier.status == "ok":
            if made.status in DONE:
                self._store.keep_replaced(earlier)
            else:  # a score is not lost for an attempt that gave none
                record = earlier.model_copy(update={"attempts": made.attempts})
        if planned.id in self._unreadable and self.record(planned) is None:
            self._store.set_aside(planned.id)
        self._store.write_protocol(planned.cell.protocol_digest, resolved(planned.cell.protocol, planned.protocol))
        self._store.write_record(record)
        folder = WorkFolder.of(self._store.root, planned.id)
        folder.forget_outcome()
        if made.status in DONE:
            folder.tidy()
        return made


def _attempt(verdict: Verdict, outcome: dict[str, Any] | None, seconds: float) -> Attempt:
    reason = verdict.reason or (outcome or {}).get("remark")
    return Attempt(status=verdict.status, reason=reason, seconds=round(seconds, 3))
