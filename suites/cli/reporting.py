"""``adm report``."""

from __future__ import annotations

import typer


def report(suite: str) -> None:
    """Print a suite's tables.

    Example: adm report quick
    """
    typer.echo(suite)
