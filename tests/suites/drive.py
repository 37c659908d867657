"""Runs a suite with the test worker: ``python drive.py SUITE_FILE STORE WORKERS [GROUP]``; exits as ``adm run`` does.

And what tests look at afterwards: records.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from results.errors import RecordError
from results.records.schema import Record
from results.records.store import Store
from suites.executors.base import Job
from suites.executors.local import LocalExecutor
from suites.executors.slots import Slot, slots
from suites.plan.groups import Room
from suites.plan.plan import make_plan
from suites.plan.selection import Selection
from suites.run.display import PlainDisplay
from suites.run.runner import Runner
from suites.run.summary import Summary
from suites.spec.expand import PlannedCell, expand
from suites.work.options import RunOptions

DRIVER = [sys.executable, __file__]
ONE_CELL = """
title: one cell
blocks:
  - title: Online
    task: classification
    benchmark: digit-scenes@1
    protocol: smoke
    pairs: [resnet8w8s2 > resnet8w8s2]
    regime: online
    methods: [none]
    seeds: [0]
"""
"""A suite of a single real cell, of seconds."""


class ShortTraining(LocalExecutor):
    """A process per cell whose training is a short sum."""

    worker = "suite_test_worker"

    def preloaded(self, job: Job, slot: Slot) -> tuple[str, ...]:
        return (self.worker,)  # its imports take most of a worker's time


def drive(
    suite: Path,
    store: Path,
    workers: int = 2,
    timeout: float | None = None,
    fail_fast: bool = False,
    selection: Selection | None = None,
    group: int = 1,
) -> Summary:
    """Run a suite file with the test worker on CPU slots, so many cells in a worker at most."""
    expansion, records = expand(str(suite)), Store(store)
    plan = make_plan(expansion, records, workers, selection, Room(group))
    executor = ShortTraining(slots("cpu", workers), timeout)
    options = RunOptions(device="cpu", store=store)
    display = PlainDisplay(plan, expansion.suite.title, Console(file=sys.stdout, width=200, highlight=False))
    return Runner(plan, records, executor, options, display, fail_fast).run()


def find(suite: Path, method: str, seed: int, regime: str = "offline") -> PlannedCell:
    """The cell of a suite file."""
    cells = expand(str(suite)).cells
    return next(c for c in cells if (c.cell.method_name, c.cell.seed, c.cell.regime) == (method, seed, regime))


def record(suite: Path, store: Path, method: str, seed: int = 0, regime: str = "offline") -> Record:
    """The record of a cell, which there must be."""
    found = Store(store).read_record(find(suite, method, seed, regime).id)
    assert found is not None
    return found


if __name__ == "__main__":
    try:
        summary = drive(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), group=int([*sys.argv, "1"][4]))
    except RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(summary.exit_code)
