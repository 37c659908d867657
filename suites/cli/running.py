"""``adm run``."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from suites.cli.arguments import (
    DEFAULT_STORE,
    CellsPerJob,
    DataRoots,
    Device,
    DeviceChoice,
    Fresh,
    GpusPerCell,
    GroupSize,
    MethodFiles,
    Only,
    PerGpu,
    Retry,
    SlurmOptions,
    StoreFolder,
    SuiteName,
    Trusted,
    Workers,
    absolute,
    group_size,
)
from suites.cli.checking import check_needs, check_schema, take_name
from suites.cli.console import make_console

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from rich.console import Console

    from suites.executors.base import Executor
    from suites.plan.groups import Room
    from suites.plan.plan import Plan
    from suites.plan.selection import Selection
    from suites.run.summary import Display, Summary
    from suites.spec.expand import Expansion
    from suites.work.options import RunOptions

WAIT = "On a cluster: stay until all is trained, and submit again what is lost; Ctrl-C leaves the jobs alone."
TRACKER = "Mirror the curves of running cells to tensorboard, wandb or mlflow, each an extra to install."
TIMEOUT = "Seconds after which a cell is ended; cells that are trained together have as many times that."


def run(
    suite: SuiteName,
    store: StoreFolder = DEFAULT_STORE,
    executor: Annotated[str, typer.Option(help="Where cells are trained: adm list executors.")] = "local",
    workers: Workers = None,
    per_gpu: PerGpu = None,
    gpus_per_cell: GpusPerCell = 1,
    group: GroupSize = None,
    device: DeviceChoice = Device.auto,
    data_root: DataRoots = None,
    method_file: MethodFiles = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Start nothing more after a failure.")] = False,
    timeout: Annotated[float | None, typer.Option(min=1, help=TIMEOUT)] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch missing data sets.")] = False,
    trust: Trusted = None,
    only: Only = None,
    retry: Retry = None,
    fresh: Fresh = False,
    slurm: SlurmOptions = None,
    cells_per_job: CellsPerJob = None,
    wait: Annotated[bool, typer.Option("--wait", help=WAIT)] = False,
    tracker: Annotated[str | None, typer.Option("--tracker", metavar="NAME", help=TRACKER)] = None,
) -> None:
    """Train what a suite still lacks. Stop it at any time; run it again to go on.

    On a cluster (--executor slurm) jobs are submitted, and the command ends; run it again to submit what is missing.

    Exit status: 0 all done or submitted, 1 some cells failed, 2 bad input, 130 interrupted.

    Example: adm run quick --workers 2
    """
    from suites.cli.submitting import refuse, submit
    from suites.executors import registry
    from suites.executors.base import ExecutorOptions, Queue
    from suites.plan.selection import select
    from suites.run.submit import Terms
    from suites.spec.expand import expand

    expansion = expand(suite, files := absolute(method_file))
    options = run_options(expansion, store, device, data_root, files, download, trust)
    options, group = options.model_copy(update={"gpus_per_cell": gpus_per_cell}), group_size(group, gpus_per_cell)
    selection = select(expansion, only or (), [status.value for status in retry or ()], fresh)
    if issubclass(kind := registry.get(executor), Queue):
        refuse({"--fail-fast": fail_fast}, f"--executor {executor} submits all cells at once")
        refuse({"--tracker": tracker}, f"curves are mirrored by a run that stays, and --executor {executor} leaves")
        terms = Terms(cells_per_job, group, workers, per_gpu, timeout)
        sys.exit(submit(suite, expansion, kind.from_options(slurm), store, options, selection, terms, wait))
    ours = {"--slurm": slurm, "--cells-per-job": cells_per_job, "--wait": wait}
    refuse(ours, f"it is for clusters (--executor slurm), and this is --executor {executor}")
    terms_here = ExecutorOptions(device.value, workers, per_gpu, timeout, gpus_per_cell)
    place = registry.local(executor).from_options(terms_here)
    sys.exit(train(suite, expansion, place, store, options, selection, group, fail_fast, tracker))


def run_options(
    expansion: Expansion,
    store: Path,
    device: Device,
    data_root: DataRoots,
    method_files: tuple[Path, ...],
    download: bool,
    trust: Trusted,
) -> RunOptions:
    """What the command line says to all workers, wherever they run: environments are not always handed on.

    Raises:
        AdmError: a data root that does not exist and nothing is to be downloaded into.
    """
    from adm_core.errors import AdmError
    from suites.work.options import RunOptions
    from tasks import datasets

    given = absolute(data_root)
    for root in given:
        if not (root.is_dir() or download):
            raise AdmError(f"--data-root {root}: no such folder")
    here = (root.absolute() for root in datasets.roots_from_environment())
    return RunOptions(
        device=device.value,
        data_roots=(*given, *expansion.data_roots, *here),
        method_files=method_files,
        download=download,
        files=dict(expansion.files),
        folders={digest: dict(splits) for digest, splits in expansion.folders.items()},
        trusted=_trusted(trust or (), expansion),
        store=store.absolute(),
    )


def train(
    given: str,
    expansion: Expansion,
    place: Executor,
    store: Path,
    options: RunOptions,
    selection: Selection,
    group: int | None,
    fail_fast: bool = False,
    tracker: str | None = None,
) -> int:
    """Train what cells a store still lacks, and tell how it went.

    Args:
        given: the suite, as messages name it.
        expansion: its cells.
        place: where they are trained.
        store: its folder, as messages name it.
        options: of the workers.
        selection: which of the cells are asked for.
        group: how many one worker may train together; None: as many as fit.
        fail_fast: whether nothing more is started after a failure.
        tracker: to which curves are mirrored; None: to none.

    Returns:
        The exit status: 0 all done, 1 some cells failed, 130 interrupted.

    Raises:
        AdmError: a store of an earlier version, missing data, a checkpoint that is not to be loaded, or a tracker that
            is not installed.
    """
    from results.records.store import Store
    from suites.plan.plan import make_plan
    from suites.run.display import display_for
    from suites.run.mirror import Mirror
    from suites.run.runner import Runner
    from suites.run.trackers import runs_of

    records = Store(options.store)
    runs = runs_of(tracker) if tracker else None
    options = options.model_copy(update={"curves": tracker is not None})
    check_schema(records, str(store))
    plan = make_plan(expansion, records, place.slots, selection, room(group, place, options.device))
    check_needs(plan, options)
    take_name(given, expansion, records)
    console = make_console()
    summary = None
    if plan.open:
        with display_for(plan, expansion.suite.title, console) as shown, ExitStack() as stack:
            display: Display = shown
            if tracker and runs:
                warn = partial(console.print, style="yellow", markup=False)
                mirror = Mirror(shown, records, expansion.suite.name, tracker, runs, warn)
                display = stack.enter_context(mirror)
            summary = Runner(plan, records, place, options, display, fail_fast).run()
    _tell(console, expansion, plan, summary, str(store))
    return _exit_code(plan, summary)


def room(group: int | None, executor: Executor, device: str) -> Room:
    """How many cells one worker trains together.

    Raises:
        AdmError: several, on an executor whose workers train one each.
    """
    from adm_core.errors import AdmError
    from suites.plan.groups import ALONE, Room

    if executor.takes_groups:
        return Room(group, executor.memory(device))
    if group not in (None, 1):
        raise AdmError(f"--group {group} needs --executor local: a worker of '{executor.name}' trains one cell")
    return ALONE


def _exit_code(plan: Plan, summary: Summary | None) -> int:
    """The run's own; 1 also for cells that failed before and were not to be tried again."""
    failed_before = any(row.state == "failed" for row in plan.rows if not row.open)
    return (summary.exit_code if summary else 0) or int(failed_before)


def _trusted(files: Iterable[Path], expansion: Expansion) -> tuple[str, ...]:
    """What identifies the files of ``--trust``: their content, so that no other file is run in their place."""
    from adm_core.errors import AdmError
    from suites.spec.networks import sha256

    known = {checkpoint.digest: checkpoint.file.name for checkpoint in expansion.checkpoints}
    digests = []
    for file in files:
        digests.append(sha256(file.expanduser()))
        if digests[-1] not in known:
            has = f"it has {', '.join(sorted(known.values()))}" if known else "it has none"
            raise AdmError(f"--trust {file}: suite '{expansion.suite.name}' has no such checkpoint; {has}")
    return tuple(digests)


def _tell(console: Console, expansion: Expansion, plan: Plan, summary: Summary | None, store: str) -> None:
    """The last lines: what became of the run and what to do next."""
    from results.table import counted
    from suites.cli.arguments import DEFAULT_STORE
    from suites.plan.view import show_other_code

    name = expansion.suite.name
    left = [row.state for row in plan.rows if not row.open and row.state != "done"]
    where = "" if store == str(DEFAULT_STORE) else f" --store {store}"
    if summary is None and left:
        failed = left.count("failed")
        told = f"{failed} failed and not tried again, {len(left) - failed} left out"
        console.print(f"{name}: nothing to do of what is asked for: {told}", markup=False)
    elif summary is None:
        console.print(f"{name}: nothing to do, {counted(len(plan.rows), 'cell')} done", markup=False)
    elif summary.interrupted:
        console.print(f"{name}: interrupted; run it again to go on", markup=False)
    elif summary.failed:
        console.print(
            f"{name}: {counted(len(summary.failed), 'cell')} failed; run it again to retry them", markup=False
        )
        for cell in summary.failed[:5]:
            console.print(f"  adm logs {cell}{where}", markup=False)
    elif left:
        console.print(f"{name}: {counted(len(plan.rows) - len(left), 'cell')} done, {len(left)} left out", markup=False)
    else:
        console.print(f"{name}: {counted(len(plan.rows), 'cell')} done", markup=False)
    show_other_code(console, plan)
    console.print(f"adm report {name}{where}", markup=False)
