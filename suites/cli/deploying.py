"""``adm deploy``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suites.cli.arguments import DEFAULT_STORE, DataRoots, StoreFolder, Trusted, absolute
from suites.cli.console import say


def deploy(
    names: Annotated[
        list[str],
        typer.Argument(metavar="SUITE|CELL...", help="Suites that were run, or beginnings of cells' ids."),
    ],
    store: StoreFolder = DEFAULT_STORE,
    out: Annotated[Path, typer.Option("--out", help="Folder for the programs.")] = Path("deployed"),
    data_root: DataRoots = None,
    trust: Trusted = None,
) -> None:
    """Write trained students as programs that plain torch runs, without this suite's code.

    Whatever a method deploys is written: the student, its first branch, a moving average, a student with another's
    classifier. A classifier takes float32 images [B, 3, H, W] in 0..1 and gives logits [B, K].

    Example: adm deploy quick, then in Python: torch.export.load("deployed/CELL.pt2").module()(images)
    """
    from results.records.store import Store, write_atomically
    from suites.look.deploy import chosen, program
    from suites.look.trained import TrainedCells, named

    records = Store(store)
    wanted = chosen(names, records)
    cells = TrainedCells(records, "cpu", absolute(data_root), absolute(trust))
    for record in wanted:
        path = out / f"{record.id}.pt2"
        write_atomically(path, program(record, cells))
        say(f"{path}  {named(record.cell)}")
