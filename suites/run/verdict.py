"""What an attempt at a cell amounts to, and the record that is made of it."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from results.records.schema import Attempt, Record
from suites.executors.base import Ending
from suites.spec.expand import PlannedCell

_CONTENT = ("scores", "primary", "curves", "teacher", "weights", "cost", "capabilities", "data_digest", "code",
            "environment", "stretched", "noisy_labels")  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """How an attempt ended.

    Attributes:
        status: of the record to be.
        reason: for people; None when all is well.
        infrastructure: the machine failed rather than the experiment, so another attempt makes sense.
        of_group: it may be due to another cell that was trained beside this one, so fewer are to be tried together.
    """

    status: str
    reason: str | None
    infrastructure: bool = False
    of_group: bool = False


def judge(ending: Ending, outcome: dict[str, Any] | None, together: int = 1) -> Verdict:
    """Status and reason of an attempt at a cell, from what the worker left for it or else from how the worker ended.

    Args:
        ending: of the worker.
        outcome: the cell's.
        together: how many cells the worker trained.
    """
    found = _judge(ending, outcome, together)
    if together == 1 or found.status == "interrupted" or (outcome is not None and found.status != "oom"):
        return found
    others = "another" if together == 2 else f"{together - 1} others"
    return replace(found, reason=f"{found.reason}; trained together with {others}", of_group=True)


def _judge(ending: Ending, outcome: dict[str, Any] | None, together: int) -> Verdict:
    if outcome is not None:
        return Verdict(str(outcome.get("status", "error")), outcome.get("reason"))
    if ending.stopped:
        return Verdict("interrupted", "stopped before it was done; run the suite again to go on")
    if ending.timed_out:
        limit = "the limit for one cell" if together == 1 else f"the limit for {together} cells"
        return Verdict("timeout", f"ended after {ending.seconds:.0f} s, {limit}")
    if ending.out_of_memory:
        return Verdict("oom", "ended by the system for lack of memory")
    if ending.code is None:
        return Verdict("error", ending.message, infrastructure=True)
    if ending.code < 0:
        doubt = " (out of memory?)" if ending.code == -signal.SIGKILL else f" ({_signal_name(-ending.code)})"
        return Verdict("error", f"killed by signal {-ending.code}{doubt}", infrastructure=True)
    return Verdict("error", f"the worker ended with exit status {ending.code} and left no outcome", infrastructure=True)


def make_record(
    planned: PlannedCell, verdict: Verdict, outcome: dict[str, Any] | None, attempts: list[Attempt]
) -> Record:
    """The record of a cell; an outcome that breaks the record's rules becomes an error that says so."""
    content = {key: outcome[key] for key in _CONTENT if outcome and outcome.get(key) is not None}
    try:
        return _record(planned, verdict.status, verdict.reason, attempts, content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = f"the worker's outcome is not valid: {place}: {first['msg']}"
        spoilt = Attempt(status="error", reason=reason, seconds=attempts[-1].seconds)
        return _record(planned, "error", reason, [*attempts[:-1], spoilt], {})


def _record(
    planned: PlannedCell, status: str, reason: str | None, attempts: list[Attempt], content: dict[str, Any]
) -> Record:
    given = {"id": planned.id, "cell": planned.cell, "status": status, "reason": reason, "attempts": attempts}
    return Record.model_validate(given | content)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown signal"
