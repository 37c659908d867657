"""``adm plan``, ``adm status`` and ``adm logs``."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from results.table import counted
from suites.cli.arguments import (
    DEFAULT_STORE,
    AsJson,
    Device,
    DeviceChoice,
    Fresh,
    GpusPerCell,
    GroupSize,
    MethodFiles,
    Only,
    PerGpu,
    Retry,
    StoreFolder,
    SuiteName,
    Workers,
    absolute,
    group_size,
)
from suites.cli.console import make_console, say
from suites.cli.submitting import refuse

if TYPE_CHECKING:
    from results.records.store import Store
    from suites.plan.plan import Plan
    from suites.run.whereabouts import Lookout

_WATCH_SECONDS = 2.0


def plan(
    suite: SuiteName,
    store: StoreFolder = DEFAULT_STORE,
    workers: Workers = None,
    per_gpu: PerGpu = None,
    gpus_per_cell: GpusPerCell = 1,
    group: GroupSize = None,
    device: DeviceChoice = Device.auto,
    method_file: MethodFiles = None,
    only: Only = None,
    retry: Retry = None,
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Show what a suite consists of, what is done, what is to do and why, and what it will cost.

    Example: adm plan quick
    """
    made, title, _ = _make(
        suite, store, workers, device, method_file, only, retry, fresh, group, per_gpu, gpus_per_cell
    )
    if as_json:
        say(json.dumps(made.as_json(), indent=1))
        return
    from suites.plan.view import show_plan

    show_plan(make_console(), made, title)


def status(
    suite: SuiteName,
    store: StoreFolder = DEFAULT_STORE,
    method_file: MethodFiles = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until all is done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how far a suite is: what runs now, where, and how far it is, what waits in a cluster's queue, what was lost
    there, and what failed and why.

    Example: adm status quick --watch
    """
    from results.records.store import Store
    from suites.run.whereabouts import Lookout

    lookout = Lookout(Store(store))
    if watch:
        refuse({"--json": as_json}, "it is for a look, and --watch for many")
        _watch(lambda: _make(suite, store, None, Device.cpu, method_file, lookout=lookout))
        return
    made, title, records = _make(suite, store, None, Device.cpu, method_file, lookout=lookout)
    from suites.plan.view import progress_of, show_status

    if as_json:
        content = made.as_json()
        for row in (*content["artefacts"], *content["cells"]):
            row["progress"] = progress_of(row["id"], records)
        say(json.dumps(content, indent=1))
        return

    show_status(make_console(), made, title, records)


def _watch(look: Callable[[], tuple[Plan, str, Store]]) -> None:
    """Show a suite's state until all is done or somebody has seen enough."""
    from suites.plan.view import show_status

    console = make_console()
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            began = time.monotonic()
            made, title, records = look()
            console.clear()
            show_status(console, made, title, records)
            if not made.open:
                return
            # A tenth of the time is enough where there is much to read.
            time.sleep(max(_WATCH_SECONDS, 10 * (time.monotonic() - began)))


def logs(
    cell: Annotated[str, typer.Argument(help="Id of a cell, or its first digits.")],
    store: StoreFolder = DEFAULT_STORE,
) -> None:
    """Print what the worker of a cell printed, and why the cell failed if it did.

    Of a cell that a cluster's jobs were given, their files are named; where no worker came to print, the last is shown.

    Example: adm logs 3f2a
    """
    from results.records.store import Store
    from suites.look.lookup import cell_by_prefix
    from suites.run.whereabouts import logs_of
    from suites.work.folder import WorkFolder

    records = Store(store)
    cell_id = cell_by_prefix(records, cell)
    log = WorkFolder.of(store, cell_id).log
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    of_jobs = logs_of(store, cell_id)
    if of_jobs and not text.strip():
        text = of_jobs[-1].read_text(encoding="utf-8", errors="replace")
    say(text.rstrip("\n") if text.strip() else f"{cell_id} printed nothing")
    for file in of_jobs:
        say(f"its job printed: {file}")
    found, problems = records.records([cell_id])
    for record in found.values():
        say(f"{cell_id} {record.status}" + (f": {record.reason}" if record.reason else ""))
    for problem in problems:
        say(f"{cell_id} unreadable: {problem}")


def _make(
    suite: str,
    store: StoreFolder,
    workers: int | None,
    device: Device,
    method_file: MethodFiles,
    only: Only = None,
    retry: Retry = None,
    fresh: Fresh = False,
    group: GroupSize = None,
    per_gpu: PerGpu = None,
    gpus_per_cell: int = 1,
    lookout: Lookout | None = None,
) -> tuple[Plan, str, Store]:
    from results.records.store import Store
    from suites.executors.memory import worker_memory
    from suites.executors.slots import expected
    from suites.plan.groups import Room
    from suites.plan.plan import make_plan
    from suites.plan.selection import select
    from suites.run.whereabouts import Lookout
    from suites.spec.expand import expand

    expansion = expand(suite, absolute(method_file))
    records = Store(store)
    selection = select(expansion, only or (), [status.value for status in retry or ()], fresh)
    count = expected(device.value, workers, per_gpu, gpus_per_cell)
    found = (lookout or Lookout(records)).look()
    room = Room(group_size(group, gpus_per_cell), worker_memory(device.value, count))
    made = make_plan(expansion, records, count, selection, room, found.cells)
    earlier = len(records.of_earlier_schemas(besides=made.records))
    if earlier:
        told = f"{counted(earlier, 'record')} of an earlier version, whose cells had other ids, counted as none"
        say(f"store '{store}': {told}: adm migrate --store {store}", err=True)
    for remark in filter(None, (made.remark, found.remark)):
        say(f"which cells are running is not known: {remark}", err=True)
    return made, expansion.suite.title, records
