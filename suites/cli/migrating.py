"""``adm migrate``."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

from suites.cli.arguments import DEFAULT_STORE, MethodFiles, StoreFolder, absolute
from suites.cli.console import say


def migrate(
    store: StoreFolder = DEFAULT_STORE,
    protocol: Annotated[
        list[Path] | None, typer.Option("--protocol", metavar="FILE", help="Protocol of your own; repeatable.")
    ] = None,
    method_file: MethodFiles = None,
) -> None:
    """Bring a store that an earlier version wrote up to this one: its cells get the ids that suites give them now.

    Scores, curves, costs and all else that records hold stay as they are, and nothing is trained. Cells whose protocol
    or method is not known here keep their ids; tables show them as before.

    Example: adm migrate --store runs
    """
    from adm_core import registry
    from adm_core.errors import AdmError
    from results.records.store import Store
    from results.table import counted
    from suites.run.reidentify import bring_up

    if not store.is_dir():
        raise AdmError(f"--store {store}: no such folder")
    for file in absolute(method_file):
        registry.load_file(file)
    done = bring_up(Store(store), absolute(protocol))
    say(f"{store}: new ids for {counted(len(done.ids), 'cell')}" if done.ids else f"{store}: no cell needed a new id")
    reasons: dict[str, list[str]] = defaultdict(list)
    for cell, reason in done.kept.items():
        reasons[reason].append(cell)
    for reason, cells in reasons.items():
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        say(f"kept its id: {cells[0]}{more}: {reason}", err=True)
