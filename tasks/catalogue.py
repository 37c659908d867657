"""What tasks offer by name: their benchmarks and networks. Loads no torch."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from adm_core.condition import Condition
from adm_core.errors import AdmError, unknown
from adm_core.network_definition import NetworkDefinition
from adm_core.task import Offered, Task
from adm_core.yaml_file import read_mapping
from tasks.datasets.catalogue import SOURCES
from tasks.datasets.splits import SplitSettings
from tasks.offer import ListedNetwork, NetworkFile, Offer

_TASKS = Path(__file__).resolve().parent


class Metric(BaseModel):
    """The primary metric of a benchmark."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    higher_is_better: bool
    unit: str


class Benchmark(BaseModel):
    """A data set with its split and metric, as ``tasks/<task>/benchmarks.yaml`` states it.

    ``objects`` are the classes whose pixels are known to be foreground; where there are none, there are no masks. What
    is not ``in_memory`` is decoded from files when it is read.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)
    title: str
    dataset: str
    metric: Metric
    classes: int | None = None
    image_size: int | None = None
    in_memory: bool = True
    objects: tuple[str, ...] = ()


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


def offer(task: str) -> Offer:
    """What a task tells before torch is loaded: ``OFFER`` in ``tasks/<task>/offer.py``."""
    found: Offer = importlib.import_module(f"tasks.{task}.offer").OFFER
    return found


def task_class(task: str) -> type[Task]:
    """The class that opens a task's benchmarks: ``TASK`` in ``tasks/<task>/task.py``; loads torch."""
    found: type[Task] = importlib.import_module(f"tasks.{task}.task").TASK
    return found


def code_folders(task: str) -> tuple[Path, ...]:
    """The folders whose code makes a task's numbers: its own, and that of the data sets."""
    return _TASKS / task, _TASKS / "datasets"


@functools.cache
def networks(task: str) -> Mapping[str, ListedNetwork]:
    """A task's own networks by name."""
    return {entry["name"]: entry for entry in offer(task).networks()}


def check_benchmark(task: str, name: str, where: str, own: Iterable[str] = ()) -> Benchmark:
    """The benchmark of that name.

    Args:
        task: e.g. ``classification``.
        name: of the benchmark.
        where: file and block, for messages.
        own: the suite's own benchmarks, which might have been meant.

    Raises:
        AdmError: no such task, or it has no such benchmark; nearest names are given.
    """
    if task not in tasks():
        raise unknown("task", task, tasks(), where=f"{where}, task")
    known = benchmarks(task)
    if name not in known:
        raise unknown("benchmark", name, [*known, *own], where=f"{where}, benchmark")
    return known[name]


def check_takes_folders(task: str, where: str) -> None:
    """Stop at a benchmark of a suite's own, which is a folder of labelled images, where the task opens none.

    Raises:
        AdmError: no such task, or it has only its own benchmarks.
    """
    if task not in tasks():
        raise unknown("task", task, tasks(), where=f"{where}, task")
    if not offer(task).image_folders:
        raise AdmError(f"{where}: a folder of images is a benchmark for classification, not for {task}")


def splits(task: str, benchmark: str) -> tuple[str, ...]:
    """The splits that a benchmark of the task has of its own."""
    return SOURCES[benchmarks(task)[benchmark].dataset].splits


def check_network(task: str, name: str, where: str, kind: str = "network", own: Iterable[str] = ()) -> None:
    """Stop at a network that the task cannot build.

    A name that begins as a library's do is the library's to judge, as far as the task can without torch.

    Args:
        task: e.g. ``classification``.
        name: of the network.
        where: file and key, for messages.
        kind: what to call it, e.g. ``network (teacher)``.
        own: the suite's own networks, which might have been meant.

    Raises:
        AdmError: no such network; nearest names are given.
    """
    offered = offer(task)
    if name.startswith(offered.external):
        offered.check_external(name, where)
    elif name not in networks(task):
        raise unknown(kind, name, [*networks(task), *own], where=where)


def check_definition(task: str, definition: NetworkDefinition, where: str) -> None:
    """Stop at a network of a suite's own that the task cannot build, where the task can tell without torch.

    Raises:
        AdmError: an unknown base, or the task's ``check_definition`` refuses.
    """
    if definition.file is None:
        check_network(task, definition.base, f"{where}.base")
    try:
        offer(task).check_definition(definition)
    except AdmError as error:
        raise AdmError(f"{where}.{error}") from error


def is_network(task: str, name: str) -> bool:
    """Whether a name is one of the task's own networks or begins as a library's do."""
    return name in networks(task) or name.startswith(offer(task).external)


def locate(task: str, place: str, beside: Path, wanted: NetworkFile, where: str) -> Path:
    """The file that a network's config or weights are read from.

    A place that is a folder or begins as a library's names do is understood by tasks that offer ``locate``.

    Args:
        task: e.g. ``diffusion``.
        place: as the suite says it.
        beside: the folder to which it is relative.
        wanted: which of its files.
        where: file and key, for messages.

    Raises:
        AdmError: there is no such file.
    """
    offered, path = offer(task), beside / Path(place).expanduser()
    if path.is_file():
        return path
    if offered.locate is not None and (path.is_dir() or place.startswith(offered.external)):
        return offered.locate(str(path) if path.is_dir() else place, wanted, where)
    raise AdmError(f"{where}: {path}: {'is a folder, not a file' if path.is_dir() else 'no such file'}")


def check_weights(task: str, weights: Path, settings: SplitSettings, where: str) -> None:
    """Stop at weights from elsewhere that were trained otherwise than a protocol trains, where the task can tell.

    Args:
        task: e.g. ``diffusion``.
        weights: their file.
        settings: of the protocol.
        where: file and key that named them, for messages.

    Raises:
        AdmError: names both sides.
    """
    offer(task).check_weights(weights, settings, where)


def config_files(task: str, file: Path) -> list[Path]:
    """All the files that a network's config consists of, itself first.

    Raises:
        AdmError: one of them cannot be read.
    """
    return [file, *offer(task).config_files(file)]


def check_data(task: str, data: Mapping[str, Any], where: str) -> SplitSettings:
    """Stop at a protocol whose ``data`` part the task would refuse.

    Returns:
        The settings.

    Raises:
        AdmError: an unknown key, or a value of a wrong type or out of range.
    """
    return offer(task).read_data(data, where)


def offered(task: str, settings: SplitSettings, condition: Condition | None) -> Offered:
    """What a task shows methods under a protocol's settings and a condition."""
    return offer(task).offered(settings, condition)


def check_data_used(
    task: str, settings: SplitSettings, where: str, in_memory: bool, splits: Collection[str], regime: str
) -> None:
    """Stop at a setting that a benchmark or a regime could not obey.

    Args:
        task: e.g. ``classification``.
        settings: of the protocol.
        where: which protocol, for messages.
        in_memory: whether the benchmark's images lie in memory rather than in files.
        splits: that the benchmark has of its own.
        regime: of the block.

    Raises:
        AdmError: names the key and what would be right.
    """
    if settings.validation == "own" and "validation" not in splits:
        raise AdmError(
            f"{where}: key 'data.validation' = 'own': the benchmark has only {', '.join(splits)} of its own; say which "
            "share of train to carve off, as 0.1"
        )
    for key in offer(task).student_keys:
        if regime != "offline" and getattr(settings, key):
            raise AdmError(
                f"{where}: key 'data.{key}' = {getattr(settings, key)}: it is for students of a teacher that is "
                f"trained first, and regime {regime} has none"
            )
    offer(task).check_used(settings, in_memory, where)


def without_student_keys(task: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """What a protocol's ``data`` says about a teacher trained alone: all but the task's ``student_keys``."""
    return {key: value for key, value in data.items() if key not in offer(task).student_keys}
