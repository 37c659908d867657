"""How a plot becomes inline SVG: colours that follow the page, ids of its own, the same bytes for the same data."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, MUTED, GRID, BAND, PAPER = "#010101", "#020202", "#030303", "#040404", "#050505"
SERIES = tuple(f"#0601{number:02x}" for number in range(1, 8))
"""Colours that stand for the page's own; no scheme has these, so that they can be told apart in the SVG."""

_NAMES = {INK: "ink", MUTED: "muted", GRID: "grid", BAND: "band", PAPER: "paper"}
_VARIABLES = {color: f"var(--{name})" for color, name in _NAMES.items()} | {
    color: f"var(--s{number})" for number, color in enumerate(SERIES, start=1)
}
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 12,
    "axes.formatter.useoffset": False,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that texts measure the same everywhere
    "font.size": 12,
    "grid.color": GRID,
    "grid.linewidth": 1,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "adm-bench",
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
    "xtick.bottom": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "ytick.left": False,
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_COLOR = re.compile(r"#[0-9a-f]{6}")
_FONT = re.compile(r"font-family:[^;]*;?")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_NUMBERS = frozenset({"d", "x", "y", "width", "height", "transform", "points"})
_LEFT_OUT = frozenset({"style", "metadata"})
_LONGEST = 36
_CHARACTER = 0.62
"""Width of an average character as a share of the font's size, on the wide side."""
_AXIS_LABEL = 20.0
"""Pixels that the name of an axis takes beside its numbers."""


@dataclass(frozen=True)
class Plot:
    """A plot to be shown.

    Attributes:
        title: its heading.
        about: what is drawn, in a sentence or two.
        svg: an ``<svg>`` element to stand in a page.
        legend: whether its colours need the block's legend.
    """

    title: str
    about: str
    svg: str
    legend: bool = False


@contextmanager
def drawing() -> Iterator[None]:
    """Plots drawn inside look as the page wants, whatever settings the user keeps for matplotlib."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def make_axes(width: float, height: float, left: float, right: float, top: float, bottom: float) -> Axes:
    """Axes on a figure of their own; sizes and margins in pixels."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    FigureCanvasSVG(figure)
    box = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    axes = figure.add_axes(box)
    for axis in (axes.xaxis, axes.yaxis):  # few ticks: half of the time goes into them
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    return axes


def label_width(texts: list[str], size: float = 12) -> float:
    """Pixels that the longest of some labels takes."""
    return _CHARACTER * size * max(map(len, texts), default=0)


def short(text: str) -> str:
    """A label as plots show it: one line, printable, cut where it is long."""
    line = "".join(char if char.isprintable() else " " for char in text)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def finish(axes: Axes, name: str, title: str, about: str, drawn: str = "", legend: bool = False) -> Plot:
    """The finished plot.

    Args:
        axes: what was drawn.
        name: unique in the page; ids in the SVG begin with it.
        title: the plot's heading, also its accessible name.
        about: its description.
        drawn: what the description for those who do not see the plot says besides.
        legend: whether its colours need the block's legend.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    _make_room(axes, figure.get_figwidth() * 72)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    return Plot(title, about, inline_svg(buffer.getvalue(), name, title, f"{about} {drawn}".rstrip()), legend)


def _make_room(axes: Axes, width: float) -> None:
    """Move the left side where numbers are so long that the axis' name would leave the picture."""
    if axes.get_ylabel():
        numbers = axes.yaxis.get_major_formatter().format_ticks(list(axes.yaxis.get_majorticklocs()))
        left, box = (label_width(numbers) + _AXIS_LABEL) / width, axes.get_position()
        if left > box.x0:
            axes.set_position((left, box.y0, box.x1 - left, box.height))


def inline_svg(document: bytes, name: str, title: str, about: str) -> str:
    """A matplotlib SVG document as an element for a page: no namespaces, no styles for the whole page, own ids."""
    source = ET.fromstring(document)
    referenced = {_target(value) for element in source.iter() for value in element.attrib.values()}
    width = source.attrib["viewBox"].split()[2]
    root = ET.Element("svg", {"class": "plot", "role": "img", "aria-labelledby": f"{name}-title {name}-desc"})
    root.set("viewBox", source.attrib["viewBox"])
    root.set("style", f"width:{float(width):g}px")
    ET.SubElement(root, "title", {"id": f"{name}-title"}).text = title
    ET.SubElement(root, "desc", {"id": f"{name}-desc"}).text = about
    root.extend(part for child in source for part in _cleaned(child, name, referenced))
    return ET.tostring(root, encoding="unicode")


def _cleaned(element: ET.Element, name: str, referenced: set[str]) -> list[ET.Element]:
    """The element less what a page does not need; a group that says nothing gives way to its content."""
    tag = element.tag.split("}")[-1]
    if tag in _LEFT_OUT or (tag == "path" and element.get("style") == "fill: none"):
        return []
    children = [part for child in element for part in _cleaned(child, name, referenced)]
    attributes = _attributes(element, name, referenced)
    if tag in ("g", "defs") and (not children or (tag == "g" and not attributes)):
        return children
    clean = ET.Element(tag, attributes)
    clean.extend(children)
    if tag == "text":
        clean.text = element.text
    return [clean]


def _attributes(element: ET.Element, name: str, referenced: set[str]) -> dict[str, str]:
    kept = {}
    for key, value in element.attrib.items():
        key = key.split("}")[-1]
        if key == "id":
            value = f"{name}-{value}" if value in referenced else ""
        elif target := _target(value):
            value = value.replace(f"#{target}", f"#{name}-{target}")
        elif key == "style":
            value = _COLOR.sub(lambda found: _VARIABLES.get(found[0], found[0]), _FONT.sub("", value)).strip("; ")
        elif key in _NUMBERS:
            value = _LONG_NUMBER.sub(_rounded, " ".join(value.split()))
        if key == "transform" and value.startswith("rotate(-0 "):
            value = ""
        if value:
            kept[key] = value
    return kept


def _target(value: str) -> str:
    """The id that an attribute refers to, as ``#id`` or ``url(#id)``; empty where it refers to none."""
    reference = value.removeprefix("url(").removesuffix(")")
    return reference[1:] if reference.startswith("#") else ""


def _rounded(found: re.Match[str]) -> str:
    """Hundredths of a pixel: smaller, and the same where another processor rounds the last digit otherwise."""
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")
