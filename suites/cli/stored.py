"""Suites as they lie in a store: those that were run, whether or not their file is at hand."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from suites.cli.arguments import DEFAULT_STORE


def check_there(store: Path) -> None:
    """Stop where a store was named that does not exist; the default one comes into being with the first run.

    Raises:
        AdmError: there is no such folder.
    """
    from adm_core.errors import AdmError

    if store.exists() and not store.is_dir():
        raise AdmError(f"--store {store}: not a folder")
    if store != DEFAULT_STORE and not store.is_dir():
        raise AdmError(f"--store {store}: no such folder")


def stored_suite(store: Path, given: str) -> str:
    """The name of a suite that has been run into a store.

    Args:
        store: the folder.
        given: its name, or the path of its file, whose stem is its name.

    Raises:
        AdmError: the store has no such suite; the message says whether it exists and was not run, or gives the nearest
            names.
    """
    from adm_core.errors import AdmError, unknown
    from results.records.store import Store
    from suites.spec.names import suite_name

    check_there(store)
    name = suite_name(given)
    if Store(store).manifest_path(name).is_file():
        return name
    from suites.spec.names import suite_names  # takes longer to load than most reports

    run, known = Store(store).manifests(), suite_names()
    if name in known:
        where = "" if store == DEFAULT_STORE else f" --store {store}"
        raise AdmError(f"suite '{name}': nothing of it is in '{store}' yet; run 'adm run {name}{where}' first")
    raise unknown("suite", name, {*run, *known}, where=f"store '{store}'")


@contextmanager
def reading() -> Iterator[None]:
    """Records are read inside without garbage collection: it would walk them again and again and find nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
