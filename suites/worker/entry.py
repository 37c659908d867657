"""Trains one cell, or several in lockstep: what ``python -m suites.worker WORKDIR ...`` does.

Reads each ``cell.json``, trains, and leaves ``outcome.json``; what went wrong is part of the outcome. It never
outlives the process that started it, so that a killed runner leaves nothing behind that trains in secret.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from adm_core import freed_memory, kernels, registry
from adm_core.errors import AdmError, Diverged, Parted, Stopped, Unsupported
from suites.spec.code import code_of
from suites.spec.grouping import key_of
from suites.work.folder import Assignment, WorkFolder
from suites.worker.parentage import end_with

Train = Callable[..., dict[str, Any]]
_NO_MEMORY = re.compile(
    r"out of memory|not enough memory|(?:can't|cannot|could not|unable to|failed to) allocate|bad_alloc|alloc_failed|"
    r"memoryallocation|insufficient shared memory",
    re.IGNORECASE,
)
"""How CUDA, cuBLAS, cuDNN, NCCL, other accelerators, torch's CPU allocator and the system tell it."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables that say how many threads numerical libraries start; read when those are loaded."""


def main(arguments: list[str] | None = None, train: Train | None = None) -> int:
    """Run the cells of work folders; exit status 0: each has an outcome, or a request to end was met.

    Args:
        arguments: command line; default: the process's own.
        train: what trains a cell; default: :func:`suites.worker.training.train_cell`.
    """
    parser = argparse.ArgumentParser(prog="suites.worker", description="Train the cells of work folders.")
    parser.add_argument("workdirs", metavar="WORKDIR", nargs="+", type=Path, help="several are trained in lockstep")
    parser.add_argument("--parent", type=int, help="process without which this one ends")
    parser.add_argument("--rank", type=int, default=0, help="of this process among those that train a cell together")
    parser.add_argument("--meeting", help="file at which they meet; none: this process is the first of them")
    given = parser.parse_args(arguments)
    if given.parent is not None:
        end_with(given.parent)
    folders = [WorkFolder(path) for path in given.workdirs]
    if given.meeting is None:
        run_cells(folders, train)
        return 0
    return int(not help_with(folders[0], given.rank, given.meeting))


def run_cells(folders: list[WorkFolder], train: Train | None = None) -> None:
    """Train the cells of work folders, several in lockstep, and write each one's outcome as soon as it is done.

    As with :func:`run_cell`, what passes through and a request to end leave no outcome where there is none yet.

    Args:
        folders: where ``cell.json`` lies, of cells that form a group (:mod:`suites.spec.grouping`).
        train: what trains cells one after the other; default: they are trained in lockstep.
    """
    if train is not None or len(folders) == 1:
        for folder in folders:
            run_cell(folder, train)
        return
    under_way = {str(folder.path): _Attempt(folder) for folder in folders}

    def conclude(name: str, made: dict[str, Any] | Exception) -> None:
        under_way.pop(name).conclude(made)

    assignments: dict[str, Assignment] = {}
    for name, attempt in list(under_way.items()):
        try:
            assignments[name] = attempt.begin()
        except Exception as error:
            conclude(name, error)
    try:
        if assignments:
            _train_group(assignments, conclude)
    except Stopped as error:
        print(error, file=sys.stderr)
    except Exception as error:
        for name in list(under_way):
            conclude(name, error)


def run_cell(folder: WorkFolder, train: Train | None = None) -> None:
    """Train the cell of a work folder and write its outcome, whatever happens.

    KeyboardInterrupt and SystemExit pass through; they and a request to end leave no outcome, so that the cell is
    resumed later.

    Args:
        folder: where ``cell.json`` lies.
        train: what trains a cell; default: :func:`suites.worker.training.train_cell`.
    """
    attempt = _Attempt(folder)
    try:
        assignment = attempt.begin()
        made: dict[str, Any] | Exception = _train(assignment, folder, train)
    except Stopped as error:
        print(error, file=sys.stderr)
        return
    except Parted as error:
        print(error, file=sys.stderr)
        if folder.outcome() is not None:  # by the process that failed
            return
        made = error
    except Exception as error:
        made = error
    attempt.conclude(made)


def help_with(folder: WorkFolder, rank: int, meeting: str) -> bool:
    """Train the cell of a work folder with the worker that concludes it, and others.

    Args:
        folder: where ``cell.json`` lies.
        rank: of this process, from 1.
        meeting: file at which all meet.

    Returns:
        Whether all went well. Where this process has failed, not because another one did, its outcome says why.
    """
    attempt = _Attempt(folder)
    try:
        _train(attempt.begin(), folder, None, rank, meeting)
    except Stopped:
        return True
    except Parted as error:
        print(error, file=sys.stderr)
        return False
    except Exception as error:
        attempt.conclude(error)
        return False
    return True


class _Attempt:
    """One try at the cell of a work folder, from now on."""

    def __init__(self, folder: WorkFolder) -> None:
        self.folder = folder
        self._started, self._code = time.monotonic(), dict[str, str]()

    def begin(self) -> Assignment:
        """Read what is to be done, and set this process up for it."""
        assignment = self.folder.assignment()
        kernels.settle_here(assignment.protocol.recipe.kernels)
        for file in assignment.options.method_files:
            registry.load_file(file)
        self._code = code_of(assignment.cell)
        return assignment

    def conclude(self, made: dict[str, Any] | Exception) -> None:
        """Write the outcome: what training has made, or what it ended in."""
        if isinstance(made, Exception):
            status, reason = outcome_of(made)
            if isinstance(made, AdmError):
                print(f"{status}: {reason}", file=sys.stderr)
            else:
                traceback.print_exception(made)
            outcome: dict[str, Any] = {"status": status, "reason": reason}
        else:
            outcome = {"status": "ok", "reason": None} | made
        self.folder.conclude(outcome | {"code": self._code, "seconds": round(time.monotonic() - self._started, 3)})


def _check_group(assignments: Iterable[Assignment]) -> None:
    """Stop where cells cannot be trained in lockstep."""
    cells = [assignment.cell for assignment in assignments]
    unlike = [cell for cell in cells if key_of(cell) is None or key_of(cell) != key_of(cells[0])]
    if unlike:
        raise AdmError(
            f"cells {cells[0].id} and {unlike[0].id} are no group: cells that are trained in lockstep are offline, not "
            "stretched, and have the same teacher, benchmark, protocol, seed and kind of batches"
        )


def _train_group(
    assignments: Mapping[str, Assignment], conclude: Callable[[str, dict[str, Any] | Exception], None]
) -> None:
    """Train what stands in the folders of these paths."""
    _check_group(assignments.values())
    _settle_threads(next(iter(assignments.values())).options.device)
    training, group = (importlib.import_module(f"suites.worker.{name}") for name in ("training", "group"))
    given = {
        path: training.Given(own.cell, own.protocol, Path(path), own.options, _report(WorkFolder(Path(path)), own))
        for path, own in assignments.items()
    }
    group.train_cells(given, conclude)


def outcome_of(error: Exception) -> tuple[str, str]:
    """Status and reason of a cell that ended in an exception."""
    if isinstance(error, Unsupported):
        return "skipped", str(error)
    if isinstance(error, Diverged):
        return "diverged", str(error)
    if (told := _lack_of_memory(error)) is not None:
        return "oom", told.split("\n")[0] or "out of memory"
    if isinstance(error, AdmError):
        return "error", str(error)
    return "error", f"{type(error).__name__}: {error}"


def _lack_of_memory(error: BaseException | None) -> str | None:
    """What an exception, or one that it was raised from, says of a lack of memory; None where it is about another."""
    if error is None:
        return None
    of_machine = isinstance(error, RuntimeError | OSError) and _NO_MEMORY.search(str(error))
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or of_machine:
        return str(error)
    return _lack_of_memory(error.__cause__)


def _train(
    assignment: Assignment, folder: WorkFolder, train: Train | None, rank: int = 0, meeting: str | None = None
) -> dict[str, Any]:
    if train is None:
        _settle_threads(assignment.options.device)
        if assignment.options.gpus_per_cell > 1:
            together, report = importlib.import_module("suites.worker.together"), _report(folder, assignment)
            made: dict[str, Any] = together.train(assignment, folder, report, rank, meeting)
            return made
        train = importlib.import_module("suites.worker.training").train_cell
    return train(assignment.cell, assignment.protocol, folder.path, assignment.options, _report(folder, assignment))


def _report(folder: WorkFolder, assignment: Assignment) -> Callable[[dict[str, Any]], None]:
    """Takes the progress after each epoch, of which the folder keeps what the run has a use for."""
    return functools.partial(folder.report, with_curves=assignment.options.curves)


def _settle_threads(device: str) -> None:
    """One thread on a CPU: two busy thread pools on two cores slow each other 20 to 30 times.

    A worker on a GPU keeps what it was told, its share of the cores.
    """
    if device == "cpu" or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        _take_one_thread()
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        _take_one_thread()
        torch.set_num_threads(1)
        freed_memory.keep()


def _take_one_thread() -> None:
    os.environ.update(dict.fromkeys(THREADS, "1"))
