"""``adm clean``."""

from __future__ import annotations

from typing import Annotated

import typer

from suites.cli.arguments import DEFAULT_STORE, StoreFolder
from suites.cli.console import make_console, say


def clean(
    kinds: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KIND]...", help="locks, leftovers, logs, work, unused, jobs, artefacts; default: all."
        ),
    ] = None,
    store: StoreFolder = DEFAULT_STORE,
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is shown.")] = False,
) -> None:
    """Show what a store can do without and how large it is; with --yes, remove it.

    Records, suites and pictures stay, and so does all that a cell which is still to do needs: its checkpoint, and the
    weights of its teacher. Cells at which a runner is are left alone.

    Example: adm clean, then: adm clean logs locks --yes
    """
    from adm_core.errors import AdmError, unknown
    from results.records.store import Store
    from suites.run.clean import KINDS, find, remove

    for kind in kinds or ():
        if kind not in KINDS:
            raise unknown("kind", kind, KINDS)
    if not store.is_dir():
        raise AdmError(f"--store {store}: no such folder")
    found = [waste for waste in find(Store(store)) if not kinds or waste.kind in kinds]
    if not found:
        say(f"{store}: nothing can go")
        return
    from rich.filesize import decimal
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("kind", "files", "size", "what"):
        table.add_column(name, justify="right" if name in ("files", "size") else "left", overflow="fold")
    for kind, about in KINDS.items():
        sizes = [waste.size for waste in found if waste.kind == kind]
        if sizes:
            table.add_row(kind, str(len(sizes)), decimal(sum(sizes)), Text(about))
    make_console().print(table)
    if yes:
        say(f"{store}: removed {decimal(remove(Store(store), found))}")
    else:
        say(f"{store}: {decimal(sum(waste.size for waste in found))} can go; nothing is removed without --yes")
