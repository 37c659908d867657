"""What is meant by a name on the command line: a suite that was run, or a cell by the beginning of its id."""

from __future__ import annotations

import re

from adm_core.errors import AdmError
from results.records.schema import Record
from results.records.store import Store
from suites.spec.names import suite_name
from suites.work.folder import WorkFolder


def may_be_cell(name: str) -> bool:
    """Whether a name looks like the beginning of a cell's id: 4 to 16 hexadecimal digits."""
    return re.fullmatch(r"[0-9a-f]{4,16}", name) is not None


def suite_meant(name: str, store: Store) -> str | None:
    """The suite that a name or a path of a suite's file means; None for the beginning of a cell's id."""
    suite = suite_name(name)
    return suite if suite in store.manifests() or not may_be_cell(name) else None


def cell_by_prefix(store: Store, prefix: str) -> str:
    """The id of the one cell in a store that begins with ``prefix``.

    Raises:
        AdmError: none does, or several do.
    """
    found = sorted(cell for cell in {*store.ids(), *WorkFolder.ids(store.root)} if cell.startswith(prefix))
    if not found:
        raise AdmError(f"no cell in '{store.root}' begins with '{prefix}'; adm status SUITE --json lists ids")
    if len(found) > 1:
        raise AdmError(f"'{prefix}' is the beginning of {len(found)} cells: {', '.join(found[:5])}; give more digits")
    return found[0]


def finished_cell(store: Store, prefix: str) -> Record:
    """The record of the one cell in a store that begins with ``prefix`` and is finished.

    Raises:
        AdmError: no cell or several do, or it is not finished.
    """
    record = store.read_record(cell_by_prefix(store, prefix))
    if record is None or record.status != "ok":
        raise AdmError(f"cell '{prefix}' is not finished")
    return record
