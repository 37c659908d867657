"""What tasks offer by name: their benchmarks and networks. Loads no torch."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from adm_core.errors import AdmError, unknown
from suites.yaml_file import read_mapping

_TASKS = Path(__file__).resolve().parent.parent / "tasks"
_LIBRARIES = ("torchvision/", "timm/")


class Metric(BaseModel):
    """The primary metric of a benchmark."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    higher_is_better: bool
    unit: str


class Benchmark(BaseModel):
    """A data set with its split and metric, as ``tasks/<task>/benchmarks.yaml`` states it."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    title: str
    dataset: str
    metric: Metric
    classes: int | None = None
    image_size: int | None = None


def tasks() -> list[str]:
    """The tasks there are."""
    return sorted(path.parent.name for path in _TASKS.glob("*/benchmarks.yaml"))


@functools.cache
def benchmarks(task: str) -> Mapping[str, Benchmark]:
    """A task's benchmarks by ``name@version``.

    Raises:
        AdmError: no such task, or a mistake in its file.
    """
    if task not in tasks():
        raise unknown("task", task, tasks())
    path = _TASKS / task / "benchmarks.yaml"
    found = {}
    for name, given in read_mapping(path).items():
        if not re.fullmatch(r"[a-z0-9-]+@[1-9][0-9]*", name):
            raise AdmError(f"{path}: benchmark '{name}' is not of the form name@version")
        try:
            found[name] = Benchmark.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            raise AdmError(f"{path}: {name}.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return found


@functools.cache
def networks(task: str) -> Mapping[str, Mapping[str, Any]]:
    """A task's own networks by name, each with ``name``, ``parameters``, ``taps`` and whatever else the task tells."""
    return {entry["name"]: entry for entry in importlib.import_module(f"tasks.{task}.networks").catalogue()}


def check_benchmark(task: str, name: str, where: str) -> Benchmark:
    """The benchmark of that name.

    Raises:
        AdmError: no such task, or it has no such benchmark; nearest names are given.
    """
    if task not in tasks():
        raise unknown("task", task, tasks(), where=f"{where}, task")
    known = benchmarks(task)
    if name not in known:
        raise unknown("benchmark", name, known, where=f"{where}, benchmark")
    return known[name]


def check_network(task: str, name: str, where: str, role: Literal["teacher", "student"]) -> None:
    """Stop at a network that the task cannot build; names of torchvision and timm are left to these libraries.

    Raises:
        AdmError: no such network; nearest names are given.
    """
    if not name.startswith(_LIBRARIES) and name not in networks(task):
        raise unknown(f"network ({role})", name, networks(task), where=f"{where}, pairs")


def check_data(task: str, data: Mapping[str, Any], where: str) -> None:
    """Stop at a protocol whose ``data`` part the task would refuse; ``tasks/<task>/data_settings.py`` reads it.

    Raises:
        AdmError: an unknown key, or a value of a wrong type or out of range.
    """
    if (_TASKS / task / "data_settings.py").exists():
        importlib.import_module(f"tasks.{task}.data_settings").read(data, where)


def check_taps(task: str, name: str, taps: Iterable[str], where: str) -> None:
    """Stop at a tap that a network of the task's own list has not; library networks tell theirs once they are built.

    Raises:
        AdmError: no such tap; the network's nearest are given.
    """
    known = networks(task).get(name)
    if known is None:
        return
    there = [*known["taps"], *(["last"] if any(tap.startswith("stage") for tap in known["taps"]) else [])]
    for tap in taps:
        if tap not in there:
            raise unknown("tap", tap, there, where=f"{where}: network '{name}'")
