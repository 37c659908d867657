"""``adm insight``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from suites.cli.arguments import DEFAULT_STORE, AsJson, DataRoots, Device, DeviceChoice, StoreFolder, Trusted, absolute
from suites.cli.console import make_console, say

if TYPE_CHECKING:
    from results.table import Table
    from results.tables.insight.tables import Looked
    from suites.look.trained import TrainedCells


def insight(
    name: Annotated[
        str, typer.Argument(metavar="SUITE|CELL", help="A suite that was run, or the beginning of a cell's id.")
    ],
    store: StoreFolder = DEFAULT_STORE,
    images: Annotated[int, typer.Option(min=2, help="Test images to measure on.")] = 1000,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the tables (md, tex, csv) and the pictures (png).")
    ] = None,
    pictures: Annotated[int, typer.Option(min=1, help="Images that --out shows.")] = 6,
    device: DeviceChoice = Device.auto,
    data_root: DataRoots = None,
    trust: Trusted = None,
    as_json: AsJson = False,
) -> None:
    """Ask trained networks whether ADM's observations hold: do they agree, act and differ on the object?

    Needs a benchmark with object masks and the weights that 'adm run' leaves in the store; trains nothing. Pictures
    are of the cell named, else of the suite's first one with ADM.

    Example: adm insight quick --out insight
    """
    from rich.console import Console

    from results.records.store import Store
    from results.report import render
    from results.tables.insight.tables import as_plain, tables_of
    from suites.look.insight import chosen_blocks, look
    from suites.look.trained import TrainedCells

    records = Store(store)
    blocks, remarks = chosen_blocks(name, records)
    for remark in remarks:
        say(remark, err=True)
    cells = TrainedCells(records, device.value, absolute(data_root), absolute(trust))
    with Console(stderr=True).status("loading") as status:
        looked = look(blocks, cells, images, lambda cell: status.update(f"measuring {cell}"))
        status.update("resampling")
        tables = tables_of(looked)
        written = _write(out, tables, _drawn(looked, cells, images, pictures)) if out else []
    if as_json:
        say(json.dumps(as_plain(tables), indent=1))
    else:
        console = make_console()
        say(render(tables, "terminal", console.width, console.is_terminal and not console.no_color), end="")
    for path in written:
        say(path, err=True)


def _drawn(looked: Sequence[Looked], cells: TrainedCells, images: int, count: int) -> dict[str, bytes]:
    """File name to picture: all examples in one, and each by itself."""
    from results.plots.insight import draw
    from suites.look.insight import examples, pictured
    from suites.look.trained import named

    cell = pictured(looked)
    shown, title = examples(cell, looked, cells, images, count), f"{cell.benchmark}: {named(cell)}"
    each = {f"example-{number}.png": draw([one], title) for number, one in enumerate(shown, start=1)}
    return {"examples.png": draw(shown, title)} | each


def _write(folder: Path, tables: Sequence[Table], pictures: Mapping[str, bytes]) -> list[Path]:
    """The tables in every form, and the pictures."""
    from results.records.store import write_atomically
    from results.render.forms import FORMS

    texts = {folder / f"insight.{form}": make(tables) for form, make in FORMS.items()}
    files = texts | {folder / name: content for name, content in pictures.items()}
    for path, content in files.items():
        write_atomically(path, content)
    return list(files)
