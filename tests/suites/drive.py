"""Runs a suite with the test worker: ``python drive.py SUITE_FILE STORE WORKERS``; exits as ``adm run`` does."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from results.errors import RecordError
from results.store import Store
from suites.executors import LocalExecutor
from suites.executors.slots import slots
from suites.expand import expand
from suites.options import RunOptions
from suites.plan import make_plan
from suites.progress import PlainDisplay
from suites.schedule import Runner, Summary

WORKER = "suite_test_worker"


def drive(
    suite: Path, store: Path, workers: int = 2, timeout: float | None = None, fail_fast: bool = False
) -> Summary:
    """Run a suite file with the test worker on CPU slots."""
    expansion, records = expand(str(suite)), Store(store)
    plan = make_plan(expansion, records, workers)
    executor = LocalExecutor(slots("cpu", workers), timeout, WORKER)
    options = RunOptions(device="cpu", store=store)
    display = PlainDisplay(plan, expansion.suite.title, Console(file=sys.stdout, width=200, highlight=False))
    return Runner(expansion, records, executor, options, display, fail_fast).run()


if __name__ == "__main__":
    try:
        summary = drive(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    except RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(summary.exit_code)
