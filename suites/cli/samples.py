"""``adm samples``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suites.cli.arguments import DEFAULT_STORE, DataRoots, Device, DeviceChoice, StoreFolder, Trusted, absolute
from suites.cli.console import say


def samples(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="SUITE|CELL...",
            help="Suites that were run, of which the first finished seed of each row is drawn, or beginnings of cells' "
            "ids.",
        ),
    ],
    store: StoreFolder = DEFAULT_STORE,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the pictures; default: samples/ in the store.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Images of each network.")] = 64,
    device: DeviceChoice = Device.auto,
    data_root: DataRoots = None,
    trust: Trusted = None,
) -> None:
    """Draw what trained generators make of the same noises: a grid per cell, its teacher's beside it.

    Needs a task that generates images (diffusion) and the weights that 'adm run' leaves in the store; trains nothing.
    The pictures are named for their cells, and the page of 'adm report' shows those that lie in the store.

    Example: adm samples diffusion-quick
    """
    from rich.console import Console

    from results.records.store import Store, write_atomically
    from suites.look.samples import chosen, pictures
    from suites.look.trained import TrainedCells

    records = Store(store)
    wanted, remarks = chosen(names, records)
    for remark in remarks:
        say(remark, err=True)
    cells = TrainedCells(records, device.value, absolute(data_root), absolute(trust))
    with Console(stderr=True).status("loading") as status:
        for cell_id, picture in pictures(wanted, cells, count, lambda cell: status.update(f"drawing {cell}")):
            path = out / f"{cell_id}.png" if out else records.samples_path(cell_id)
            write_atomically(path, picture)
            say(path)
