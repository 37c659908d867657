"""``adm merge``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from suites.cli.console import say
from suites.cli.stored import reading

if TYPE_CHECKING:
    from results.records.store import Store


def merge(
    stores: Annotated[
        list[str],
        typer.Argument(
            metavar="STORE...",
            help="Folders of records. Records keep the folder's name, or the one that NAME=STORE gives.",
        ),
    ],
    into: Annotated[Path, typer.Option("--into", metavar="STORE", help="The store that is added to; made if absent.")],
) -> None:
    """Make one store of several, such as those of two clusters: records, suites, protocols, pictures, teachers.

    Everything is read and checked first: digests, and that no cell has two results. Where anything is wrong nothing is
    written. What is there already stays; merging again does nothing more.

    Example: adm merge cluster/runs laptop=runs --into all
    """
    from results.records.store import Store
    from results.table import counted
    from suites.run.merge import merge as merge_stores

    sources = _sources(stores, into)
    with reading():
        done = merge_stores(sources, Store(into))
    for name, count in done.taken.items():
        say(f"{counted(count, 'record')} from {name}")
    if done.known:
        say(f"in {into} already, with the same results: {counted(done.known, 'cell')}")
    for suite, rows in done.suites.items():
        say(f"suite {suite}: {counted(rows, 'cell')}")
    for missing in done.missing:
        say(f"in none of the stores: {missing}", err=True)


def _sources(given: list[str], into: Path) -> dict[str, Store]:
    """Name to store.

    Raises:
        AdmError: no folder of records, the one that is added to, or a name that is taken or cannot be one.
    """
    from adm_core.errors import AdmError
    from results.records.store import Store
    from suites.spec.names import NAME

    found: dict[str, Store] = {}
    for word in given:
        named = re.fullmatch(rf"({NAME})=(.+)", word)
        folder = Path(named[2] if named and not Path(word).exists() else word)
        name = named[1] if named and not Path(word).exists() else folder.resolve().name
        if not (folder / "records").is_dir():
            raise AdmError(f"'{folder}' is no folder of records: it has no folder 'records'")
        if folder.resolve() == into.resolve():
            raise AdmError(f"'{folder}' is the store that is added to; leave it out")
        if name in found or not re.fullmatch(NAME, name):
            why = f"'{found[name].root}' has that name" if name in found else "letters, digits and ._- are allowed"
            raise AdmError(f"'{folder}' cannot be called '{name}': {why}; give it a name: NAME={folder}")
        found[name] = Store(folder)
    return found
