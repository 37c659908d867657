"""What was submitted to a cluster: which cells stand in which job, kept in the store so that every node can read it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from adm_core.errors import AdmError
from adm_files import read, replacing, why_not_written
from results.records.store import Store

JOBS = "jobs"
"""The folder of a store in which submissions lie."""


class Ended(BaseModel):
    """A job that has ended, as it was found.

    Attributes:
        told: how, for people.
        lost: the cells that it was to train and of which there is neither a record nor a reason.
        cancelled: whether somebody ended it on purpose.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    told: str
    cancelled: bool = False
    lost: tuple[str, ...] = ()


class Submission(BaseModel):
    """Cells that were submitted together: ``STORE/jobs/NAME/submission.json``.

    A job is found by the name of its array and its number, which are fixed before it is submitted: a submission that is
    killed half way loses no job.

    Attributes:
        name: by which submissions are in order of time.
        suite: whose cells these are.
        queue: the cluster's kind, such as ``slurm``.
        lists: for each job the ids of its cells, in the order in which they are trained.
        arrays: the first list of each array of jobs, ascending.
        before: cell id to what its record was when it was submitted, where it had one.
        peaks: cell id to what its training is known to take, in MiB.
        group: how many cells a worker may train together; None: as many as fit.
        workers: how many workers a job has at once; None: one per GPU that it got, or one.
        per_gpu: how many on each GPU.
        timeout: seconds for each cell.
        ended: list to how its job ended, of those that were found ended.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    suite: str
    queue: str
    lists: tuple[tuple[str, ...], ...]
    arrays: tuple[int, ...]
    before: dict[str, str] = {}
    peaks: dict[str, float] = {}
    group: int | None = None
    workers: int | None = None
    per_gpu: int | None = None
    timeout: float | None = None
    ended: dict[int, Ended] = {}

    def job_name(self, array: int) -> str:
        """The name under which the queue has an array of jobs."""
        return f"adm-{self.suite}-{self.name}-{array}"

    def spans(self) -> list[tuple[int, int]]:
        """The first list of each array, and the one behind its last."""
        return list(zip(self.arrays, (*self.arrays[1:], len(self.lists)), strict=True))

    def jobs(self) -> Iterator[tuple[int, tuple[str, int]]]:
        """Every list with the name and number of its job."""
        for array, end in self.spans():
            for index in range(array, end):
                yield index, (self.job_name(array), index - array)

    def write(self, store: Path) -> None:
        """Write it, whole or not at all.

        Raises:
            AdmError: it cannot be written.
        """
        path = folder_of(store, self.name) / "submission.json"
        try:
            with replacing(path) as new:
                new.write_text(self.model_dump_json(indent=1), encoding="utf-8")
        except OSError as error:
            raise AdmError(why_not_written(path, error)) from error


def folder_of(store: Path, name: str) -> Path:
    """Where a submission lies, and what its jobs print."""
    return store / JOBS / name


def new_name() -> str:
    """A name that no other submission of a store has, later ones greater."""
    return f"{datetime.now():%Y%m%d-%H%M%S-%f}"


def read_submission(store: Path, name: str) -> Submission:
    """One submission.

    Raises:
        AdmError: missing or damaged.
    """
    path = folder_of(store, name) / "submission.json"
    try:
        return Submission.model_validate_json(read(path))
    except OSError as error:
        raise AdmError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise AdmError(f"{path}: is no submission: {error.errors()[0]['msg']}; remove its folder") from error


def submissions(store: Path) -> list[Submission]:
    """All of them in a store, in order of time.

    Raises:
        AdmError: one is damaged.
    """
    return [read_submission(store, path.parent.name) for path in sorted((store / JOBS).glob("*/submission.json"))]


def digest(store: Store, cell: str) -> str | None:
    """What the record of a cell is now, damaged or not; None: there is none."""
    try:
        return hashlib.sha256(read(store.record_path(cell))).hexdigest()[:16]
    except OSError:
        return None


class Journal:
    """What the jobs of one list did with its cells, a line each; appended to by the node, read by everybody.

    A cell that was begun and not ended when the last line was written is one at which the job was, or was lost.

    Args:
        store: the store's folder.
        submission: its name.
        index: of the list.
    """

    def __init__(self, store: Path, submission: str, index: int) -> None:
        self._file = folder_of(store, submission) / f"{index}.journal"

    def add(self, word: str, cell: str, stamp: int = 0) -> None:
        """Append a line.

        Args:
            word: ``begun``, ``ended`` or ``left``.
            cell: its id.
            stamp: of its checkpoint as it was then; 0: there was none.
        """
        with self._file.open("a") as file:
            file.write(f"{word} {cell} {stamp}\n")

    def lines(self) -> list[tuple[str, str, int]]:
        """What was appended so far; a line that a power cut left half written is none."""
        try:
            found = [line.split() for line in self._file.read_text(errors="replace").splitlines()]
        except OSError:
            return []
        return [(line[0], line[1], int(line[2])) for line in found if len(line) == 3 and line[2].isdigit()]

    def under_way(self) -> set[str]:
        """The cells that were begun and not ended."""
        last = {cell: word for word, cell, _ in self.lines()}
        return {cell for cell, word in last.items() if word == "begun"}

    def in_vain(self, cell: str, stamp: int) -> int:
        """How often a cell was begun with a checkpoint, without getting to another or an end.

        Args:
            cell: its id.
            stamp: of the checkpoint that it has now.
        """
        times = 0
        for word, each, was in reversed(self.lines()):
            if each == cell:
                if (word, was) != ("begun", stamp):
                    break
                times += 1
        return times


def chunks(counts: Sequence[int], largest: int) -> list[int]:
    """The first list of each array, where some lists follow each other and no array has more than ``largest``.

    Args:
        counts: how many lists belong together, in order.
        largest: how many jobs an array may have.
    """
    firsts: list[int] = []
    begin = 0
    for count in counts:
        firsts += range(begin, begin + count, largest)
        begin += count
    return firsts
