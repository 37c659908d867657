"""``adm doctor``."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Annotated, Any

import typer

from suites.cli.arguments import DEFAULT_STORE, AsJson, DataRoots, SlurmOptions, StoreFolder, absolute
from suites.cli.console import make_console, say

_KNOWN_TORCH = ((2, 11), (2, 15))


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
    if cluster:
        from suites.cli.examining import examine
        from suites.executors import registry

        queue = registry.queue(executor).from_options(slurm)
        sys.exit(examine(queue, store, list(absolute(data_root)), timeout, as_json))
    found = found_here(data_root)
    if as_json:
        say(json.dumps(found, indent=1))
    else:
        _show(found)
    sys.exit(1 if found["problems"] else 0)


def found_here(data_root: DataRoots = None) -> dict[str, Any]:
    """Versions, devices and data sets of this machine, and under ``problems`` what is amiss, as JSON."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "packages": _packages(),
        "devices": _devices(),
        "data": _data(data_root),
    }
    return found | {"problems": _problems(found)}


def _packages() -> dict[str, str | None]:
    """Versions of what the benchmark needs; None: not installed. And of Ray where it is installed."""
    try:
        needed = [line for line in requires("adm-bench") or [] if "extra ==" not in line]
        names = [re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in needed]
    except PackageNotFoundError:
        names = ["torch", "torchvision", "timm", "pydantic", "safetensors"]
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    with contextlib.suppress(PackageNotFoundError):  # an extra, whose version must be that of its cluster
        versions["ray"] = version("ray")
    return versions


def _devices() -> dict[str, Any]:
    from adm_core.cpu import cores
    from suites.executors.gpus import driver_version, gpus

    found = [dataclasses.asdict(gpu) for gpu in gpus()]
    devices: dict[str, Any] = {"cores": cores(), "driver": driver_version(), "gpus": found, "torch_sees": None}
    try:
        import torch
    except ImportError as error:
        devices["torch_sees"] = f"torch cannot be imported: {error}"
        return devices
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    devices["torch_sees"] = ", ".join(names) if names else "CPU only"
    return devices


def _data(data_root: DataRoots) -> list[dict[str, Any]]:
    from tasks import datasets

    roots = [*absolute(data_root), *datasets.roots_from_environment()]
    rows = []
    for name in datasets.names():
        there, detail = datasets.available(name, roots)
        rows.append({"name": name, "found": there, "detail": detail})
    return rows


def _problems(found: dict[str, Any]) -> list[str]:
    absent = [name for name, number in found["packages"].items() if number is None]
    problems = [f"package {name} is not installed; pip install {name}" for name in absent]
    torch_version = found["packages"].get("torch")
    if torch_version:
        series = tuple(int(part) for part in torch_version.split(".")[:2])
        if not _KNOWN_TORCH[0] <= series <= _KNOWN_TORCH[1]:
            problems.append(f"torch {torch_version} is outside the supported 2.11 to 2.15")
    sees = str(found["devices"]["torch_sees"])
    if "cannot be imported" in sees:
        problems.append(sees)
    elif found["devices"]["gpus"] and sees == "CPU only":
        problems.append("the driver shows a GPU that torch does not see; install a CUDA build of torch")
    return problems


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
