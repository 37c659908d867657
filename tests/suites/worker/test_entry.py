"""What a worker makes of the ways in which a training can end."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adm_core.errors import AdmError, Diverged, Stopped, Unsupported
from suites.spec.expand import expand
from suites.work.folder import Assignment, WorkFolder
from suites.work.options import RunOptions
from suites.worker import entry
from suites.worker.entry import outcome_of, run_cell


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


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronous"), "oom"),
        (RuntimeError("CUDA driver error: out of memory"), "oom"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "oom"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "oom"),
        (RuntimeError("NCCL error: unhandled cuda error, Cuda failure 2 'out of memory'"), "oom"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"), "oom"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: 4 bytes"),
            "oom",
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), "oom"),
        (RuntimeError("std::bad_alloc"), "oom"),
        (RuntimeError("unable to mmap 512 bytes from file </x>: Cannot allocate memory (12)"), "oom"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "oom"),
        (RuntimeError("DataLoader worker is killed by signal: Bus error: insufficient shared memory (shm)"), "oom"),
        (np._core._exceptions._ArrayMemoryError((10**9, 10**9), np.dtype("float64")), "oom"),  # type: ignore[attr-defined]
        (caused(ValueError("a plug-in says so"), torch.OutOfMemoryError("CUDA out of memory.")), "oom"),
        (RuntimeError("CUDA error: device-side assert triggered"), "error"),
        (RuntimeError("the memory bank has 3 classes, not 10"), "error"),
        (ValueError("out of memory is a title here"), "error"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "error"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, Exception) else None,
)
def test_a_lack_of_memory_is_told_from_other_errors(error: Exception, status: str) -> None:
    found, reason = outcome_of(error)
    assert found == status and reason and "\n" not in reason


def test_a_cell_that_was_asked_to_stop_leaves_no_outcome(assigned: WorkFolder) -> None:
    run_cell(assigned, raising(Stopped("stopped in epoch 1 of 3, with a checkpoint")))
    assert assigned.outcome() is None


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=lambda error: type(error).__name__)
def test_an_interrupt_leaves_no_outcome(assigned: WorkFolder, error: BaseException) -> None:
    with pytest.raises(type(error)):
        run_cell(assigned, raising(error))
    assert assigned.outcome() is None


@pytest.mark.parametrize("wanted", [False, True])
def test_curves_are_left_after_each_epoch_where_the_run_has_a_tracker(
    suite: Path, store: Path, tmp_path: Path, wanted: bool
) -> None:
    planned, folder = expand(str(suite)).rows[0], WorkFolder(tmp_path / "work")
    options = RunOptions(store=store, curves=wanted)
    folder.assign(Assignment(cell=planned.cell, protocol=planned.protocol, options=options))
    left = []

    def train(*given: Any) -> Any:
        given[-1]({"epoch": 1, "curves": {"epoch": [1.0]}})
        left.append((folder.progress(), folder.curves(), (folder.path / "curves.json").exists()))
        return {}

    run_cell(folder, train)
    assert left == [({"epoch": 1}, {"epoch": [1.0]} if wanted else {}, wanted)]


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


@pytest.mark.parametrize(
    ("device", "visible", "gpu", "threads"),
    [("auto", "GPU-1", True, "7"), ("cuda", "GPU-1", True, "7"), ("auto", "", False, "1"), ("cpu", "GPU-1", True, "1"),
     ("auto", None, False, "1")],
)  # fmt: skip
def test_only_on_a_cpu_a_worker_takes_one_thread(monkeypatch, device, visible, gpu, threads):
    for variable in entry.THREADS:
        monkeypatch.setenv(variable, "7")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    before = torch.get_num_threads()
    entry._settle_threads(device)
    torch.set_num_threads(before)
    assert {os.environ[variable] for variable in entry.THREADS} == {threads}


def test_a_worker_settles_its_recipes_kernels_before_a_method_file_loads_torch(suite: Path, store: Path) -> None:
    planned, seen = expand(str(suite)).rows[0], store / "seen"
    (store / "mine.py").write_text(f"""
import os, torch
from pathlib import Path
from adm_core import Method, MethodCard, register
Path({str(seen)!r}).write_text(f"{{os.environ.get('CUBLAS_WORKSPACE_CONFIG')}} {{'MKL_CBWR' in os.environ}}")
@register
class Mine(Method):
    card = MethodCard('mine', 'Mine', 'none', 2026, frozenset({{'offline'}}), 'logits')
""")
    folder = WorkFolder.of(store, planned.id)
    options = RunOptions(store=store, method_files=(store / "mine.py",), device="cpu")
    folder.assign(Assignment(cell=planned.cell, protocol=planned.protocol, options=options))
    shell = {**os.environ, "MKL_CBWR": "COMPATIBLE", "CUBLAS_WORKSPACE_CONFIG": ":16:8"}
    run = f"""
from pathlib import Path
from suites.work.folder import WorkFolder
from suites.worker.entry import run_cell
run_cell(WorkFolder(Path({str(folder.path)!r})), lambda *_: {{}})
"""
    subprocess.run([sys.executable, "-c", run], env=shell, check=True)
    assert seen.read_text() == ":4096:8 False"
