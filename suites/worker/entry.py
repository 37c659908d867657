"""Trains one cell: what ``python -m suites.worker WORKDIR`` does.

Reads ``cell.json``, trains, and leaves ``outcome.json``; what went wrong is part of the outcome. It never outlives
the process that started it, so that a killed runner leaves nothing behind that trains in secret.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adm_core import kernels, registry
from adm_core.errors import AdmError, Diverged, Stopped, Unsupported
from suites.spec.code import code_of
from suites.work.folder import Assignment, WorkFolder
from suites.worker.parentage import end_with

Train = Callable[..., dict[str, Any]]
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NO_MEMORY = re.compile(
    r"out of memory|not enough memory|(?:can't|cannot|could not|unable to|failed to) allocate|bad_alloc|alloc_failed|"
    r"memoryallocation|insufficient shared memory",
    re.IGNORECASE,
)
"""How CUDA, cuBLAS, cuDNN, NCCL, other accelerators, torch's CPU allocator and the system tell it."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables that say how many threads numerical libraries start; read when those are loaded."""


def main(arguments: list[str] | None = None, train: Train | None = None) -> int:
    """Run the cell of a work folder; exit status 0: there is an outcome, or a request to end was met.

    Args:
        arguments: command line; default: the process's own.
        train: what trains a cell; default: :func:`suites.worker.training.train_cell`.
    """
    parser = argparse.ArgumentParser(prog="suites.worker", description="Train the cell of a work folder.")
    parser.add_argument("workdirs", type=Path, nargs="+", metavar="WORKDIR")
    parser.add_argument("--parent", type=int, help="process without which this one ends")
    given = parser.parse_args(arguments)
    if given.parent is not None:
        end_with(given.parent)
    for workdir in given.workdirs:
        run_cell(WorkFolder(workdir), train)
    return 0


def run_cell(folder: WorkFolder, train: Train | None = None) -> None:
    """Train the cell of a work folder and write its outcome, whatever happens.

    KeyboardInterrupt and SystemExit pass through; they and a request to end leave no outcome, so that the cell is
    resumed later.

    Args:
        folder: where ``cell.json`` lies.
        train: what trains a cell; default: :func:`suites.worker.training.train_cell`.
    """
    started, code = time.monotonic(), dict[str, str]()
    try:
        assignment = folder.assignment()
        kernels.settle_here(assignment.protocol.recipe.kernels)
        for file in assignment.options.method_files:
            registry.load_file(file)
        code = code_of(assignment.cell)
        outcome = {"status": "ok", "reason": None} | _train(assignment, folder, train)
    except Stopped as error:
        print(error, file=sys.stderr)
        return
    except Exception as error:
        status, reason = outcome_of(error)
        if not isinstance(error, AdmError):
            traceback.print_exc()
        else:
            print(f"{status}: {reason}", file=sys.stderr)
        outcome = {"status": status, "reason": reason}
    folder.conclude(outcome | {"code": code, "seconds": round(time.monotonic() - started, 3)})


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


def _train(assignment: Assignment, folder: WorkFolder, train: Train | None) -> dict[str, Any]:
    if train is None:
        _settle_threads(assignment.options.device)
        train = importlib.import_module("suites.worker.training").train_cell
    return train(assignment.cell, assignment.protocol, folder.path, assignment.options, folder.report)


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
        keep_freed_memory()


def _take_one_thread() -> None:
    os.environ.update(dict.fromkeys(THREADS, "1"))


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next step instead of handing it back to the system.

    Activations of a few megabytes are otherwise mapped anew in every step and every page of them is zeroed: up to a
    fifth of a KD step of resnet56 > resnet20 on a CPU, nothing to speak of for the smallest networks. glibc only;
    elsewhere nothing happens.
    """
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        ctypes.CDLL(None).mallopt(_M_MMAP_MAX, 0)
        ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, -1)
