"""``adm tune``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from suites.cli.arguments import (
    DEFAULT_STORE,
    DataRoots,
    Device,
    DeviceChoice,
    Fresh,
    GroupSize,
    MethodFiles,
    Only,
    PerGpu,
    Retry,
    StoreFolder,
    SuiteName,
    Trusted,
    Workers,
    absolute,
)
from suites.cli.console import make_console, say

if TYPE_CHECKING:
    from results.records.store import Store
    from suites.spec.trials import Trials

TRIALS = "Trials of every row: the settings that the suite states, and others from the ranges that methods declare."


def tune(
    suite: SuiteName,
    trials: Annotated[int, typer.Option("--trials", min=1, max=1024, help=TRIALS)],
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=100, help="Seeds of every trial, from 1000 upward.")] = 2,
    out: Annotated[Path | None, typer.Option("--out", help="The file; default: tuned/SUITE.yaml.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be trained, and train nothing.")] = False,
    store: StoreFolder = DEFAULT_STORE,
    executor: Annotated[str, typer.Option(help="Where cells are trained: adm list executors.")] = "local",
    workers: Workers = None,
    per_gpu: PerGpu = None,
    group: GroupSize = None,
    device: DeviceChoice = Device.auto,
    data_root: DataRoots = None,
    method_file: MethodFiles = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch missing data sets.")] = False,
    trust: Trusted = None,
    only: Only = None,
    retry: Retry = None,
    fresh: Fresh = False,
) -> None:
    """Choose the settings of every row of a suite from equally many trials, scored on validation data.

    Stop it at any time; run it again to go on. The outcome is a file that the suite names as its 'chosen'.

    Exit status: 0 all done, 1 some trials failed or are left out, 2 bad input, 130 interrupted.

    Example: adm tune quick --trials 4 --dry-run
    """
    from adm_core import registry as methods
    from results.records.store import Store
    from suites.cli.running import room, run_options, train
    from suites.executors import registry
    from suites.executors.base import ExecutorOptions
    from suites.plan.selection import select
    from suites.spec.trials import trials_of

    for file in (files := absolute(method_file)):
        methods.load_file(file)
    made = trials_of(suite, trials, seeds)
    place = registry.local(executor).from_options(ExecutorOptions(device.value, workers, per_gpu))
    selection = select(made.expansion, only or (), [status.value for status in retry or ()], fresh)
    if dry_run:
        from suites.plan.plan import make_plan
        from suites.plan.view import show_plan

        plan = make_plan(made.expansion, Store(store), place.slots, selection, room(group, place, device.value))
        show_plan(make_console(), plan, made.expansion.suite.title)
        return
    options = run_options(made.expansion, store, device, data_root, files, download, trust)
    code = train(made.expansion.suite.name, made.expansion, place, store, options, selection, group)
    written = _write(made, Store(store), out or Path("tuned") / f"{made.suite.suite.name}.yaml")
    sys.exit(code or int(not written))


def _write(trials: Trials, store: Store, file: Path) -> bool:
    """Write the outcome where every trial is there, and say what is left to do."""
    from results.records.store import write_atomically
    from suites.look.tuning import as_yaml, outcome

    tuned, remarks = outcome(trials, store)
    for remark in remarks:
        say(remark, err=True)
    if tuned is None:
        say(f"{file} is written once every trial is there; run it again to go on", err=True)
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, as_yaml(tuned))
    moved = sum(row.chosen > 1 for row in tuned.rows)
    say(f"{file}: {moved} of {len(tuned.rows)} rows have other settings than the suite states; name it as 'chosen'")
    return True
