"""What this machine has of what suites need: packages, devices, data sets."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

_KNOWN_TORCH = ((2, 11), (2, 15))


def found_here(roots: Sequence[Path]) -> dict[str, Any]:
    """Versions, devices and data sets of this machine, and under ``problems`` what is amiss, as JSON.

    Args:
        roots: folders to look for data sets in, before those of ``ADM_DATA``.
    """
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "packages": _packages(),
        "devices": _devices(),
        "data": _data(roots),
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


def _data(roots: Sequence[Path]) -> list[dict[str, Any]]:
    from tasks import datasets

    places = [*roots, *datasets.roots_from_environment()]
    rows = []
    for name in datasets.names():
        there, detail = datasets.available(name, places)
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
