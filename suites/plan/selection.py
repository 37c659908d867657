"""Which of a suite's cells are to be trained, beyond what it still lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from adm_core.errors import AdmError, nearest, unknown
from results.records.schema import Record, Status
from suites.spec.expand import Expansion, PlannedCell

AGAIN: frozenset[Status] = frozenset({"diverged", "oom", "timeout", "error"})
"""How a cell may have ended and be tried again, unless a command says otherwise."""
KEYS: Mapping[str, Callable[[PlannedCell], str]] = {
    "id": lambda row: row.id,
    "block": lambda row: row.block,
    "label": lambda row: row.label,
    "method": lambda row: row.cell.method_name,
    "regime": lambda row: row.cell.regime,
    "task": lambda row: row.cell.task,
    "benchmark": lambda row: row.cell.benchmark,
    "teacher": lambda row: row.cell.teacher or "",
    "student": lambda row: row.cell.student,
    "seed": lambda row: str(row.cell.seed),
}
"""What cells can be chosen by."""


@dataclass(frozen=True)
class Selection:
    """What a command asks for.

    Attributes:
        retry: endings after which a cell is tried again; interrupted ones are always gone on with.
        only: key to patterns; a cell of a table must match one pattern of every key. Empty: all cells do.
        fresh: whether finished cells that other code trained are trained anew.
    """

    retry: frozenset[Status] = AGAIN
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fresh: bool = False

    def takes(self, row: PlannedCell) -> bool:
        """Whether a cell of a table is chosen."""
        return all(_matches(KEYS[key](row), patterns) for key, patterns in self.only.items())

    def asks_for(self, record: Record | None, other_code: bool) -> bool:
        """Whether a cell with such a record is to be trained (again)."""
        if record is None or record.status == "interrupted" or record.status in self.retry:
            return True
        return self.fresh and other_code and record.status in ("ok", "skipped")


def select(
    expansion: Expansion, only: Iterable[str] = (), retry: Iterable[Status] = (), fresh: bool = False
) -> Selection:
    """What a command line asks for.

    Args:
        expansion: the suite's cells.
        only: ``KEY=PATTERN`` with a key of :data:`KEYS` and a shell-style pattern, or the beginning of a cell's id.
        retry: endings after which a cell is tried again; none: :data:`AGAIN`.
        fresh: whether finished cells that other code trained are trained anew.

    Raises:
        AdmError: an unknown key, or a pattern that no cell of the suite's tables matches.
    """
    patterns: dict[str, tuple[str, ...]] = {}
    for given in only:
        key, equals, pattern = given.partition("=")
        if not equals:
            key, pattern = "id", f"{given}*"
        if key not in KEYS:
            raise unknown("key", key, KEYS, where=f"--only {given}")
        known = {KEYS[key](row) for row in expansion.rows}
        if not any(fnmatchcase(value, pattern) for value in known):
            hint = "the tables have no such cell; write KEY=PATTERN, as method=kd" if not equals else nearest(
                pattern, known
            )  # fmt: skip
            raise AdmError(f"--only {given}: matches no cell of suite '{expansion.suite.name}'; {hint}")
        patterns[key] = (*patterns.get(key, ()), pattern)
    chosen = Selection(frozenset(retry) or AGAIN, patterns, fresh)
    if not any(map(chosen.takes, expansion.rows)):
        told = " ".join(f"--only {given}" for given in only)
        raise AdmError(f"{told}: no cell of suite '{expansion.suite.name}' matches all of these")
    return chosen


def _matches(value: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(value, pattern) for pattern in patterns)
