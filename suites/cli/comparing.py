"""``adm compare``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from suites.cli.arguments import DEFAULT_STORE, AsJson, StoreFolder
from suites.cli.console import make_console, say


def compare(
    a: Annotated[str, typer.Argument(help="A method, the beginning of a cell's id, or a store's folder.")],
    b: Annotated[str, typer.Argument(help="Another of the same kind.")],
    store: StoreFolder = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Differences A - B over the pairs and seeds that both have, with p-values adjusted over the lines.

    Example: adm compare dml+adm dml
    """
    from results.records.store import Store
    from results.table import p_text
    from suites.cli.stored import check_there
    from suites.look.compare import compare as paired

    check_there(store)
    lines = paired(a, b, Store(store), lambda said: say(said, err=True))
    if as_json:
        say(json.dumps([asdict(line) for line in lines], indent=1))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("benchmark", "pair", "regime", "method", "network", "metric"):
        table.add_column(column)
    for column in ("n", Text(a).plain, Text(b).plain, "difference", "p"):
        table.add_column(Text(column), justify="right")
    for line in lines:
        numbers = (f"{line.n}", f"{line.first:.2f}", f"{line.second:.2f}", f"{line.difference:+.2f}")
        words = (line.benchmark, line.pair, line.regime, line.method, line.network, line.metric)
        table.add_row(*map(Text, words), *numbers, "-" if line.p is None else p_text(line.p))
    make_console().print(table)
