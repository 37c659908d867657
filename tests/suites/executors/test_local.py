"""The local executor while what its workers need is still being imported, which takes a task's libraries seconds."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT
from rich.console import Console

from results.records.store import Store
from suites.executors.base import Ending, Job, Member
from suites.executors.local import LocalExecutor
from suites.executors.slots import Slot, slots
from suites.plan.plan import make_plan
from suites.run.display import PlainDisplay
from suites.run.runner import Runner
from suites.spec.expand import expand
from suites.work.folder import WorkFolder
from suites.work.options import RunOptions
from tests.processes import wait_for

IMPORT_SECONDS = 20.0


class QuickWorkers(LocalExecutor):
    """A process per cell that trains nothing, with a module to be imported first."""

    worker = "quick_worker"

    def preloaded(self, job: Job, slot: Slot) -> tuple[str, ...]:
        return ("large",)


@pytest.fixture
def executor(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalExecutor]:
    """An executor whose workers need a module that imports until the file ``imported`` is there."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    waits = f"while time.time() < {time.time() + IMPORT_SECONDS} and not os.path.exists(file): time.sleep(0.01)"
    (tmp_path / "large.py").write_text(f"import os, time\nfile = {str(tmp_path / 'imported')!r}\n{waits}\n")
    (tmp_path / "quick_worker.py").write_text("import sys; print('large' in sys.modules); sys.exit(5)")
    made = QuickWorkers(slots("cpu", 2))
    yield made
    made.close()


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[[str], Job]]:
    """Makes a job with a folder of its own; its lock is any open file."""
    with (tmp_path / "lock").open("w") as lock:

        def make(name: str) -> Job:
            (tmp_path / name).mkdir()
            return Job("classification", (Member(WorkFolder(tmp_path / name), lock.fileno()),))

        yield make


def test_workers_are_waited_for_while_the_libraries_load(
    executor: LocalExecutor, job: Callable[[str], Job], tmp_path: Path
) -> None:
    began = time.monotonic()
    one, two = executor.start(job("one")), executor.start(job("two"))
    assert executor.poll(one) is None and executor.poll(two) is None
    executor.kill(two)
    stopped = executor.poll(two)
    assert isinstance(stopped, Ending) and stopped.stopped and stopped.code is None
    assert time.monotonic() - began < IMPORT_SECONDS / 4
    (tmp_path / "imported").touch()
    endings: list[Ending | None] = []
    wait_for(lambda: endings.append(executor.poll(one)) or endings[-1] is not None)
    assert endings[-1] is not None and endings[-1].code == 5
    assert one.job.log.read_text() == "True\n" and two.job.log.read_text() == ""


def test_a_time_limit_holds_while_the_libraries_load(
    executor: LocalExecutor, job: Callable[[str], Job], tmp_path: Path
) -> None:
    hasty, began = QuickWorkers(slots("cpu", 1), timeout=0.2), time.monotonic()
    handle = hasty.start(job("one"))
    wait_for(lambda: (ending := hasty.poll(handle)) is not None and ending.timed_out)
    hasty.close()
    assert time.monotonic() - began < IMPORT_SECONDS / 4


def test_cells_that_are_trained_together_have_as_many_times_the_limit(
    executor: LocalExecutor, job: Callable[[str], Job]
) -> None:
    hasty = QuickWorkers(slots("cpu", 1), timeout=0.3)
    members = tuple(job(name).members[0] for name in ("one", "two", "three"))
    handle = hasty.start(Job("classification", members))
    endings: list[Ending | None] = []
    wait_for(lambda: endings.append(hasty.poll(handle)) or endings[-1] is not None)
    hasty.close()
    assert endings[-1] is not None and endings[-1].timed_out and endings[-1].seconds > 3 * 0.3


def test_an_interrupt_ends_a_run_while_the_libraries_load(executor: LocalExecutor, suite: Path, store: Path) -> None:
    expansion, records = expand(str(suite)), Store(store)
    plan = make_plan(expansion, records, 2)
    display = PlainDisplay(plan, "x", Console(file=(store / "out.txt").open("w")))
    runner = Runner(plan, records, executor, RunOptions(device="cpu", store=store), display)
    interrupt = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    began = time.monotonic()
    interrupt.start()
    assert runner.run().exit_code == 130
    assert time.monotonic() - began < IMPORT_SECONDS / 4
    assert {record.status for record in records.records()[0].values()} == {"interrupted"}


def test_each_cell_gets_the_kernels_of_its_recipe(
    tmp_path: Path, job: Callable[[str], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")  # in no recipe
    (tmp_path / "large.py").write_text("import os; preloaded_with = os.environ.get('CUBLAS_WORKSPACE_CONFIG')")
    (tmp_path / "quick_worker.py").write_text("import large, os; print(large.preloaded_with, 'MKL_CBWR' in os.environ)")
    executor = QuickWorkers(slots("cpu", 2))
    told = {}
    for kernels in ("portable", "native", "portable"):
        handle = executor.start(replace(job(f"{kernels}-{len(told)}"), kernels=kernels))
        wait_for(lambda handle=handle: executor.poll(handle) is not None)
        told[kernels] = handle.job.log.read_text()
    executor.close()
    assert told == {"portable": ":4096:8 False\n", "native": "None False\n"}
