"""What the pictures of the docs share: colours for light and dark pages, fonts, and how a figure becomes a file."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

DPI = 200
PX = 72 / 96
"""Points in a pixel of a page; every length of a picture is in such pixels."""


@dataclass(frozen=True)
class Theme:
    """Colours of one kind of page; hexadecimal.

    Attributes:
        name: ends the files' names.
        paper: background, that of the page.
        ink: text and means.
        muted: what is read second.
        grid: lines of the scale.
        plain: rows of other methods.
        adm: rows with ADM in them.
    """

    name: str
    paper: str
    ink: str
    muted: str
    grid: str
    plain: str
    adm: str


THEMES = (
    Theme("light", "#ffffff", "#1f2328", "#59636e", "#e4e8ec", "#2f6fba", "#c2570c"),
    Theme("dark", "#0d1117", "#e6edf3", "#9198a1", "#252b33", "#6cb0f5", "#f0883e"),
)


def png(figure: Figure) -> bytes:
    """The same bytes for the same figure and matplotlib."""
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def style(theme: Theme) -> dict[Any, Any]:
    """Matplotlib's settings for a theme, above its own defaults."""
    return {
        "axes.edgecolor": theme.grid,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.grid.axis": "x",
        "axes.axisbelow": True,
        "axes.spines.left": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.facecolor": theme.paper,
        "font.family": "DejaVu Sans",  # comes with matplotlib, so that the picture is the same everywhere
        "font.size": 9,
        "grid.color": theme.grid,
        "text.color": theme.ink,
        "text.parse_math": False,
        "xtick.bottom": False,
        "xtick.color": theme.muted,
        "xtick.labelsize": 8,
        "ytick.left": False,
    }
