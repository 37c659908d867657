"""From a store to leaderboards: tables, files, and the proof that committed files are what the records say."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from results.analysis.blocks import MISSING, Block, collect
from results.errors import RecordError
from results.records.schema import Manifest
from results.records.store import Store, write_atomically
from results.render import terminal
from results.render.forms import FORMS
from results.table import FileForm, Table
from results.tables import registry
from results.tables.registry import Made

PAGE = "leaderboard.html"
_DIFF_LINES = 20
_PLOT = re.compile(r'<svg class="plot".*?</svg>', re.DOTALL)


@dataclass(frozen=True)
class Results:
    """A suite as read from a store.

    Attributes:
        manifest: what the suite consists of.
        blocks: its records, arranged.
        problems: what is wrong with records that could not be read.
        samples: cell id to the picture that ``adm samples`` made of the cell, where there is one.
        protocols: digest to the protocol that the store keeps, where it keeps one.
    """

    manifest: Manifest
    blocks: list[Block]
    problems: tuple[str, ...]
    samples: Mapping[str, Path] = field(default_factory=dict)
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def not_run(self) -> int:
        """How many cells have no record at all."""
        return sum(line.statuses[MISSING] for block in self.blocks for line in block.lines)


def load(store_root: str | Path, suite: str) -> Results:
    """Read a suite's manifest and records.

    Raises:
        RecordError: the store has no such suite (the nearest names are given), or its manifest is damaged.
            A damaged record is no error: its row says what is wrong.
    """
    store = Store(store_root)
    manifest = store.read_manifest(suite)
    records, faults = store.records(row.id for row in manifest.rows)
    problems = {fault.cell_id: str(fault).replace(f"{store.root}/", "") for fault in faults if fault.cell_id}
    blocks = collect(manifest, records, problems)
    pictures = {row.id: store.samples_path(row.id) for row in manifest.rows}
    samples = {cell_id: path for cell_id, path in pictures.items() if path.is_file()}
    protocols = store.protocols(block.cell for block in blocks)
    return Results(manifest, blocks, tuple(problems[key] for key in sorted(problems)), samples, protocols)


def tables_of(results: Results, table: str = "scores") -> list[Table]:
    """One kind of table of a suite.

    Args:
        results: the suite.
        table: its name, one of ``registry.names()``.

    Raises:
        RecordError: there is no such table; the nearest is named.
    """
    return registry.get(table).tables(results.blocks)


def text_of(results: Results, table: str, form: str, width: int = 100, color: bool = False) -> str:
    """One kind of table of a suite as text to print, or a line that says why there is none.

    Args:
        results: the suite.
        table: its name.
        form: ``terminal``, ``md``, ``latex`` or ``csv``.
        width: of the terminal; other forms have none.
        color: whether the terminal shows colours.

    Raises:
        RecordError: there is no such table, or it has no such form.
    """
    kind = registry.get(table)
    if form != "terminal" and _suffix(form) not in kind.forms:
        has = ", ".join(["terminal", *("latex" if suffix == "tex" else suffix for suffix in kind.forms)])
        raise RecordError(f"table '{table}': has no form '{form}'; it has {has}")
    tables = kind.tables(results.blocks)
    return render(tables, form, width, color) if tables else f"{kind.nothing}\n"


def render(tables: Sequence[Table], form: str, width: int = 100, color: bool = False) -> str:
    """Tables as text to print: ``terminal``, ``md``, ``latex`` or ``csv``.

    Args:
        tables: what to show.
        form: which form.
        width: of the terminal; other forms have none.
        color: whether the terminal shows colours.
    """
    if form == "terminal":
        return terminal.render(tables, width, color)
    return FORMS[_suffix(form)](tables)


def _suffix(form: str) -> FileForm:
    suffixes: Mapping[str, FileForm] = {"md": "md", "latex": "tex", "csv": "csv"}
    return suffixes[form]


def page(results: Results, made: Sequence[Made] | None = None, index: str = "") -> str:
    """The HTML page of a suite: all its tables, plots, notes and sample pictures in one file.

    Args:
        results: the suite.
        made: its tables, where they are made already.
        index: address of the page that lists this one, see :mod:`results.publish`; empty: there is none.

    Raises:
        RecordError: a sample picture cannot be read, or is no PNG.
    """
    from results.render import html  # loads matplotlib, which no other form needs

    tables = make_all(results) if made is None else made
    return html.render(results.manifest, results.blocks, tables, results.samples, results.protocols, index)


def make_all(results: Results) -> list[Made]:
    """Every table of a suite, kind by kind."""
    return [kind.make(results.blocks) for kind in registry.kinds()]


def write_all(results: Results, out_dir: str | Path) -> list[Path]:
    """Write every table in every form, and the page.

    Returns:
        The files, in a fixed order.

    Raises:
        RecordError: the disk is full or the folder cannot be written.
    """
    written = []
    for name, text in contents(results).items():
        written.append(Path(out_dir) / name)
        write_atomically(written[-1], text)
    return written


def check(results: Results, out_dir: str | Path) -> list[str]:
    """Make the leaderboards again and compare them with files written earlier.

    Returns:
        A message for each file that is missing, differs (with the beginning of the difference) or is none of the
        suite's; empty when all agree.
    """
    messages, wanted = [], {Path(out_dir) / name: text for name, text in contents(results).items()}
    for path, text in wanted.items():
        if not path.is_file():
            messages.append(f"{path}: is missing")
        elif path.read_bytes() != text.encode():
            messages.append(f"{path}: differs from what the records give{_about_plots(path, text)}")
            messages[-1] += f"\n{_difference(path, text)}"
    extra = sorted(path for path in Path(out_dir).rglob("*") if path not in wanted and not path.is_dir())
    return messages + [f"{path}: is none of the files that the records give; delete it" for path in extra]


def contents(results: Results) -> dict[str, str]:
    """Every table in every form that it has, and the page: file name to content."""
    made = make_all(results)
    files = {
        f"{one.kind.name}.{form}": FORMS[form](one.tables) for one in made if one.tables for form in one.kind.forms
    }
    return files | {PAGE: page(results, made)}


def _about_plots(path: Path, text: str) -> str:
    """What to add where a page differs in its plots alone."""
    bare = (_PLOT.sub("", page) for page in (path.read_bytes().decode(errors="replace"), text))
    if len(set(bare)) > 1:
        return ""
    return f", in its plots alone: these depend on matplotlib, which is version {version('matplotlib')} here"


def _difference(path: Path, text: str) -> str:
    """The first lines of a unified diff; long lines are cut, as plots are single long lines."""
    old = path.read_bytes().decode(errors="replace").splitlines()
    lines = list(difflib.unified_diff(old, text.splitlines(), "committed", "from records", n=1, lineterm=""))
    shown = [line if len(line) <= 200 else f"{line[:200]}..." for line in lines[:_DIFF_LINES]]
    if not lines:
        return "(line ends differ)"
    return "\n".join([*shown, *([f"... {len(lines) - _DIFF_LINES} more lines"] if len(lines) > _DIFF_LINES else [])])
