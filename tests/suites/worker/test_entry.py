"""What a worker makes of the ways in which a training can end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adm_core.errors import AdmError, Diverged, Unsupported
from suites.spec.expand import expand
from suites.work.folder import Assignment, WorkFolder
from suites.work.options import RunOptions
from suites.worker.entry import run_cell


@pytest.fixture
def assigned(suite: Path, store: Path) -> WorkFolder:
    """The work folder of a cell that was handed to a worker."""
    planned = expand(str(suite)).rows[0]
    folder = WorkFolder.of(store, planned.id)
    folder.assign(Assignment(cell=planned.cell, protocol=planned.protocol, options=RunOptions(store=store)))
    return folder


def raising(error: BaseException) -> Callable[..., dict[str, Any]]:
    def train(*_: object) -> dict[str, Any]:
        raise error

    return train


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Unsupported("maps are too small"), "skipped", "maps are too small"),
        (Diverged("loss is not finite"), "diverged", "loss is not finite"),
        (AdmError("no such data"), "error", "no such data"),
        (MemoryError(), "oom", "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB\nmore"), "oom", "CUDA out of memory. Tried 2 GiB"),
        (RuntimeError("[enforce fail] can't allocate memory"), "oom", "[enforce fail] can't allocate memory"),
        (KeyError("tap"), "error", "KeyError: 'tap'"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_exceptions_become_an_outcome(assigned: WorkFolder, error: Exception, status: str, reason: str) -> None:
    run_cell(assigned, raising(error))
    outcome = assigned.outcome()
    assert outcome is not None and (outcome["status"], outcome["reason"]) == (status, reason)
    assert outcome["seconds"] >= 0


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=lambda error: type(error).__name__)
def test_an_interrupt_leaves_no_outcome(assigned: WorkFolder, error: BaseException) -> None:
    with pytest.raises(type(error)):
        run_cell(assigned, raising(error))
    assert assigned.outcome() is None


def test_training_is_given_what_was_assigned_and_may_report(assigned: WorkFolder, suite: Path, store: Path) -> None:
    planned, given = expand(str(suite)).rows[0], []

    def train(cell: Any, protocol: Any, work: Path, options: Any, report: Callable[[dict[str, Any]], None]) -> Any:
        given.append((cell, protocol, work, options))
        report({"epoch": 3})
        return {"scores": {"student": {"top1": 50.0}}}

    run_cell(assigned, train)
    assert given == [(planned.cell, planned.protocol, assigned.path, RunOptions(store=store))]
    outcome = assigned.outcome()
    assert outcome is not None and outcome["status"] == "ok" and outcome["scores"] == {"student": {"top1": 50.0}}
    assert assigned.progress() == {"epoch": 3}
