"""The console that commands print to."""

from __future__ import annotations

from rich.console import Console

_UNBROKEN = 1000


def make_console() -> Console:
    """Fits a terminal; elsewhere lines are left unbroken, so that they can be searched."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_UNBROKEN)
