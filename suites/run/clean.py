"""What a store can do without, how large it is, and its removal. Records, manifests and pictures always stay."""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from adm_core.errors import AdmError
from results.records.schema import Cell
from results.records.store import Store
from suites.plan.plan import DONE
from suites.run.submission import JOBS, folder_of, submissions
from suites.spec.expand import teacher_cell
from suites.work import locks
from suites.work.folder import ARTEFACTS, WorkFolder

KINDS: Mapping[str, str] = {
    "locks": "lock files of cells at which no runner is",
    "leftovers": "files that a kill left half written, and records that were set aside as damaged or replaced",
    "logs": "what the workers of finished cells printed",
    "work": "weights and exported students of finished cells: adm insight and adm samples need them, and a teacher is "
    "trained anew when another cell needs it",
    "unused": "work folders of cells that no suite in the store names",
    "jobs": "submissions to a cluster all of whose jobs were found ended, and what these printed",
    "artefacts": "what cells share, where no cell of any suite in the store is to do",
}
"""What can go, by name."""
_SETTLED_SECONDS = 3600.0
"""A half-written file of this age is nobody's any more."""


@dataclass(frozen=True)
class Waste:
    """One file that can go.

    Attributes:
        kind: one of :data:`KINDS`.
        file: the file.
        size: in bytes.
        cell: whose lock is taken before it goes; None: nobody's.
    """

    kind: str
    file: Path
    size: int
    cell: str | None = None


def find(store: Store) -> list[Waste]:
    """Everything in a store that can go; cells at which a runner is are left alone.

    Raises:
        RecordError: a suite's manifest is damaged, so that nobody knows what it needs.
        AdmError: the file system has no locks, so that nobody knows which cells are being trained.
    """
    suites = [store.read_manifest(name) for name in store.manifests()]
    rows = {row.id: row.cell for suite in suites for row in suite.rows}
    records, _ = store.records([*rows, *WorkFolder.ids(store.root)])
    done = {cell for cell, record in records.items() if record.status in DONE}
    to_do = rows.keys() - done
    named = {*rows, *_teachers(rows.values())}
    needed = {*to_do, *_teachers(rows[cell] for cell in to_do)}
    found = [*_lock_files(store.root), *_leftovers(store.root)]
    for cell in WorkFolder.ids(store.root):
        if not locks.is_held(store.root, cell) and (cell not in named or cell in done - needed):
            found += _work_files(store.root, cell, unused=cell not in named)
    found += _jobs(store.root)
    if not to_do:
        found += _files("artefacts", (store.root / ARTEFACTS).rglob("*"))
    return found


def remove(store: Store, found: Collection[Waste]) -> int:
    """Remove files, and the folders that this leaves empty, unless a runner has begun with their cell meanwhile.

    Returns:
        How many bytes were removed.

    Raises:
        AdmError: the store cannot be written.
    """
    by_cell: dict[str | None, list[Waste]] = defaultdict(list)
    for waste in found:
        by_cell[waste.cell].append(waste)
    freed = 0
    for cell, wastes in by_cell.items():
        lock = locks.acquire(store.root, cell) if cell else None
        if cell and lock is None:
            continue
        try:
            freed += sum(map(_remove, wastes))
        finally:
            if cell and lock:
                locks.forget(store.root, cell, lock)
    _prune(store.root / name for name in (ARTEFACTS, "work", locks.LOCKS, JOBS))
    return freed


def _teachers(cells: Iterable[Cell]) -> set[str]:
    return {alone.id for cell in cells if (alone := teacher_cell(cell)) is not None}


def _lock_files(root: Path) -> Iterator[Waste]:
    for file in sorted((root / locks.LOCKS).glob("*.lock")):
        if not locks.is_held(root, file.stem):
            yield Waste("locks", file, file.stat().st_size, file.stem)


def _leftovers(root: Path) -> Iterator[Waste]:
    began = time.time() - _SETTLED_SECONDS
    halves = [file for file in root.rglob(".*.tmp") if file.stat().st_mtime < began]
    aside = [file for ending in ("unreadable", "replaced") for file in (root / "records").glob(f"*.json.{ending}")]
    return _files("leftovers", [*halves, *aside])


def _work_files(root: Path, cell: str, unused: bool) -> Iterator[Waste]:
    folder = WorkFolder.of(root, cell)
    for file in folder.path.rglob("*"):
        kind = "unused" if unused else "logs" if file == folder.log else "work"
        if not (file.name.startswith(".") and file.suffix == ".tmp"):
            yield from _files(kind, [file], cell)


def _jobs(root: Path) -> Iterator[Waste]:
    for submission in submissions(root):
        if len(submission.ended) == len(submission.lists):
            yield from _files("jobs", folder_of(root, submission.name).iterdir())


def _files(kind: str, paths: Iterable[Path], cell: str | None = None) -> Iterator[Waste]:
    return (Waste(kind, path, path.lstat().st_size, cell) for path in sorted(paths) if not path.is_dir())


def _remove(waste: Waste) -> int:
    try:
        waste.file.unlink(missing_ok=True)
    except OSError as error:
        raise AdmError(f"{waste.file}: cannot be removed: {error.strerror}; what was removed before is gone") from error
    return waste.size


def _prune(roots: Iterable[Path]) -> None:
    """Remove empty folders, the innermost first."""
    for root in roots:
        for folder, _, _ in os.walk(root, topdown=False):
            with contextlib.suppress(OSError):  # one that is not empty
                os.rmdir(folder)
