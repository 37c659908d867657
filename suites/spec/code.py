"""Which code a cell is trained with: watched, and no part of its identity. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping

from adm_core import registry, source
from results.records.schema import Cell
from tasks import catalogue

_CORE = source.of_core()  # when this is imported, as a process goes on with the code that it has loaded
_TASKS = {task: source.of_folders(catalogue.code_folders(task)) for task in catalogue.tasks()}


def code_of(cell: Cell) -> dict[str, str]:
    """SHA-256 of the code that makes a cell's numbers, by part.

    The parts are ``adm_core``, ``tasks/TASK``, and ``method NAME`` for each method, that of a frozen teacher included.

    Raises:
        AdmError: no such method.
    """
    names = [part.name for part in cell.method] + (["none"] if cell.teacher_recipe is not None else [])
    methods: dict[str, type] = {name: registry.get(name) for name in names}
    found = {f"method {name}": source.of_method(method) for name, method in methods.items()}
    known = {name: digest for name, digest in found.items() if digest is not None}
    return {"adm_core": _CORE, f"tasks/{cell.task}": _TASKS[cell.task], **known}


def differing(there: Mapping[str, str], here: Mapping[str, str]) -> tuple[str, ...]:
    """The parts of the code that two sides both tell, and tell differently."""
    return tuple(part for part, digest in there.items() if here.get(part, digest) != digest)
