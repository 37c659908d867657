"""Where executors are found: the files of this folder, and entry points of the group ``adm_bench.executors``."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TypeVar

from adm_core.errors import AdmError, unknown
from suites.executors.base import Executor, Queue

ENTRY_POINTS = "adm_bench.executors"
_known: dict[str, type[Executor] | type[Queue]] = {}
_Class = TypeVar("_Class", bound=type[Executor] | type[Queue])


def register(executor: _Class) -> _Class:
    """Class decorator that makes an executor available under its ``name``.

    Raises:
        AdmError: the name is taken by another file (both files are named).
    """
    taken = _known.get(executor.name)
    if taken is not None and _file_of(taken) != _file_of(executor):
        raise AdmError(f"two executors are named '{executor.name}': {_file_of(taken)} and {_file_of(executor)}")
    _known[executor.name] = executor
    return executor


def names() -> list[str]:
    """Every executor that can be asked for, sorted."""
    _import_own()
    return sorted({*_known, *(point.name for point in entry_points(group=ENTRY_POINTS))})


def get(name: str) -> type[Executor] | type[Queue]:
    """The class of one executor, or of a cluster's queue.

    Raises:
        AdmError: unknown name (nearest names are given), or one that comes from elsewhere and cannot be imported.
    """
    _import_own()
    for point in entry_points(group=ENTRY_POINTS, name=name):
        _import(point)
    if name not in _known:
        raise unknown("executor", name, names(), where="--executor")
    return _known[name]


def local(name: str) -> type[Executor]:
    """The class of an executor whose run stays.

    Raises:
        AdmError: as :func:`get`, or it is a cluster's queue.
    """
    found = get(name)
    if issubclass(found, Queue):
        raise AdmError(f"--executor {name}: this command stays until all is trained; 'adm run' submits to a cluster")
    return found


def queue(name: str) -> type[Queue]:
    """The class of a cluster's queue.

    Raises:
        AdmError: as :func:`get`, or it is no queue.
    """
    found = get(name)
    if not issubclass(found, Queue):
        raise AdmError(f"--executor {name}: is no cluster, to which jobs are submitted")
    return found


@functools.cache
def _import_own() -> None:
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{package}.{module.name}")


def _import(point: EntryPoint) -> None:
    where = f"executor '{point.name}' ({point.value})"
    try:
        point.load()
    except AdmError:
        raise
    except Exception as error:  # a module from elsewhere may raise anything
        raise AdmError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
    if point.name not in _known:
        raise AdmError(f"{where} registers no executor of that name; put @register above a class with that name")


def _file_of(executor: type[Executor] | type[Queue]) -> str:
    return inspect.getfile(executor)
