"""``adm list methods|tasks|benchmarks|networks|protocols|suites|executors``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from suites.cli.arguments import AsJson, MethodFiles, absolute
from suites.cli.console import make_console, say

if TYPE_CHECKING:
    from suites.spec.definition import Block, Suite

app = typer.Typer(help="List what there is. Example: adm list methods", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def methods(method_file: MethodFiles = None, as_json: AsJson = False) -> None:
    """Distillation methods; compose them with '+'.

    Example: adm list methods
    """
    from adm_core import registry

    for file in absolute(method_file):
        registry.load_file(file)
    rows = []
    for name in registry.names():
        method = registry.get(name)
        card = method.card
        rows.append(
            {
                "name": card.name,
                "regimes": sorted(card.regimes),
                "family": card.family,
                "title": card.title,
                "paper": card.paper,
                "year": card.year,
                "version": card.version,
                "settings": method.defaults(),
            }
        )
    _show(rows, ("name", "regimes", "family", "title", "paper"), as_json)


@app.command()
def tasks(as_json: AsJson = False) -> None:
    """Tasks.

    Example: adm list tasks
    """
    from tasks import catalogue

    rows = [{"name": name, "benchmarks": list(catalogue.benchmarks(name))} for name in catalogue.tasks()]
    _show(rows, ("name", "benchmarks"), as_json)


@app.command()
def benchmarks(as_json: AsJson = False) -> None:
    """Data sets with split and metric.

    Example: adm list benchmarks
    """
    from tasks import catalogue

    rows = [
        {
            "name": name,
            "task": task,
            "title": found.title,
            "dataset": found.dataset,
            "metric": found.metric.name,
            "objects": list(found.objects),
        }
        for task in catalogue.tasks()
        for name, found in catalogue.benchmarks(task).items()
    ]
    _show(rows, ("name", "task", "metric", "title"), as_json)


@app.command()
def networks(as_json: AsJson = False) -> None:
    """Networks with their trainable parameters (at 100 classes) and taps; any 'torchvision/...' and 'timm/...' too.

    Example: adm list networks --json
    """
    from tasks import catalogue

    rows = [
        {"task": task, **entry, "taps": list(entry["taps"])}
        for task in catalogue.tasks()
        for entry in catalogue.networks(task).values()
    ]
    _show(rows, ("name", "task", "parameters", "taps"), as_json)


@app.command()
def protocols(as_json: AsJson = False) -> None:
    """Frozen training recipes.

    Example: adm list protocols
    """
    from suites.spec.definition import load_protocol
    from suites.spec.names import protocol_names

    rows = []
    for name in protocol_names():
        protocol = load_protocol(name)[1]
        content = protocol.model_dump(mode="json")
        rows.append({"name": name, "epochs": protocol.recipe.epochs, "batch": protocol.recipe.batch_size} | content)
    _show(rows, ("name", "task", "epochs", "batch", "title"), as_json)


@app.command()
def suites(as_json: AsJson = False) -> None:
    """Tables of experiments.

    Example: adm list suites
    """
    from suites.spec.definition import load_suite
    from suites.spec.names import suite_names

    rows = []
    for name in suite_names():
        suite = load_suite(name)
        blocks = _blocks(suite)
        cells = sum(len(b.pairs) * len(b.methods) * len(b.seeds) for b in blocks)
        rows.append({"name": name, "cells": cells, "title": suite.title, "blocks": [b.title for b in blocks]})
    _show(rows, ("name", "cells", "title"), as_json)


@app.command()
def executors(as_json: AsJson = False) -> None:
    """Where 'adm run' can train cells.

    Example: adm list executors
    """
    from suites.executors import registry

    rows = [{"name": name, "about": registry.get(name).about} for name in registry.names()]
    _show(rows, ("name", "about"), as_json)


def _blocks(suite: Suite) -> list[Block]:
    """A suite's tables, those of the suites that it holds first."""
    from suites.spec.definition import load_suite

    return [block for name in suite.suites for block in _blocks(load_suite(name))] + list(suite.blocks)


def _show(rows: Sequence[dict[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    if as_json:
        say(json.dumps(rows, indent=1))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        number = bool(rows) and isinstance(rows[0][column], int)
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_text(row[column])) for column in columns))
    make_console().print(table)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
