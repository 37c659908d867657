"""``adm doctor``."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from suites.cli.arguments import DEFAULT_STORE, AsJson, DataRoots, SlurmOptions, StoreFolder, absolute
from suites.cli.console import make_console, say
from suites.look.machine import found_here


def doctor(
    data_root: DataRoots = None,
    as_json: AsJson = False,
    cluster: Annotated[bool, typer.Option("--cluster", help="Look at nodes of a cluster, with two jobs.")] = False,
    executor: Annotated[str, typer.Option(help="The cluster's kind.")] = "slurm",
    slurm: SlurmOptions = None,
    store: StoreFolder = DEFAULT_STORE,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the jobs.")] = 300.0,
) -> None:
    """Show versions, devices and data sets, and what is missing and how to get it.

    With --cluster two jobs tell what their nodes have, and whether locks hold between machines where the store is.

    Exit status: 0 fit to run, 1 something needed is missing (data sets are not: digit-scenes is embedded).

    Example: adm doctor --data-root ~/data
    """
    roots = list(absolute(data_root))
    if cluster:
        from suites.cli.examining import examine
        from suites.executors import registry

        queue = registry.queue(executor).from_options(slurm)
        sys.exit(examine(queue, store, roots, timeout, as_json))
    found = found_here(roots)
    if as_json:
        say(json.dumps(found, indent=1))
    else:
        _show(found)
    sys.exit(1 if found["problems"] else 0)


def _show(found: dict[str, Any]) -> None:
    from rich.text import Text

    console = make_console()
    console.print(Text("versions", style="bold"))
    console.print(Text(f"  python {found['python']}"))
    for name, number in found["packages"].items():
        console.print(Text.assemble("  ", name, " ", number or ("missing", "red")))
    devices = found["devices"]
    console.print(Text("devices", style="bold"))
    console.print(Text(f"  {devices['cores']} CPU cores; NVIDIA driver: {devices['driver'] or 'none'}"))
    for gpu in devices["gpus"]:
        memory = f"{gpu['memory'] / 2**30:.1f} GiB" if gpu["memory"] else "the machine's memory"
        console.print(Text(f"  GPU {gpu['id']}: {gpu['name']}, {memory}"), soft_wrap=True)
    console.print(Text(f"  torch sees: {devices['torch_sees']}"))
    console.print(Text("data sets", style="bold"))
    for row in found["data"]:
        mark = ("  found    ", "green") if row["found"] else ("  missing  ", "yellow")
        console.print(Text.assemble(mark, (f"{row['name']}  ", "bold"), row["detail"]), soft_wrap=True)
    for problem in found["problems"]:
        console.print(Text.assemble(("problem  ", "bold red"), problem), soft_wrap=True)
    if not found["problems"]:
        console.print(Text("fit to run; try: adm run smoke", style="green"))
