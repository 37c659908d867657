"""Where commands print to: plain lines, and the console for what is laid out."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_UNBROKEN = 1000


def say(text: object, err: bool = False, end: str = "\n") -> None:
    """Print a line at once, to standard output or standard error.

    What the terminal's encoding lacks is replaced there, see :func:`adm_bench.main`; ``typer.echo`` would put UTF-8 on
    an ASCII terminal.
    """
    print(text, end=end, file=sys.stderr if err else sys.stdout, flush=True)


def make_console() -> Console:
    """Fits a terminal; elsewhere lines are left unbroken, so that they can be searched.

    It stays with this moment's standard output, also while that of a cell trained in this process goes to a log.
    """
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False)
    return console if console.is_terminal else Console(file=sys.stdout, highlight=False, width=_UNBROKEN)
