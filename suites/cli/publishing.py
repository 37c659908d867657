"""``adm publish``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from suites.cli.arguments import DEFAULT_STORE
from suites.cli.console import say
from suites.cli.stored import reading


def publish(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The site's folder; made if absent.")],
    store: Annotated[
        list[Path] | None,
        typer.Option(
            "--store", metavar="STORE", help="Folder of records; repeatable. Default: runs.", show_default=False
        ),
    ] = None,
) -> None:
    """Write a site of all suites of some stores: an index to search, and the page of each, as adm report makes it.

    It needs no network and no server: open DIR/index.html, or copy the folder to any web server. The same records make
    the same bytes.

    Example: adm publish site --store runs --store cluster/runs
    """
    from adm_core.errors import AdmError
    from results import publish as site
    from results.records.store import write_atomically

    stores = store or [DEFAULT_STORE]
    for one in stores:
        if not one.is_dir():
            raise AdmError(f"--store {one}: no such folder")
    with reading():
        for name, text in site.contents(stores):
            write_atomically(folder / name, text)
            say(folder / name)
