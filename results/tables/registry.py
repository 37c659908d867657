"""Which tables there are: one per file of this folder, and those of other distributions.

A table registers itself when its module is imported: ``register(TableKind(name="cost", ...))``. The built-in table
``name`` lies in ``results/tables/name.py``; others come from the entry-point group ``adm_bench.tables``, whose names
are the tables' and whose values name the modules. A table's functions see blocks of records, not files.
"""

from __future__ import annotations

import difflib
import importlib
import math
import re
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Literal, get_args

from results.analysis.blocks import Block
from results.errors import RecordError
from results.table import FileForm, Table

ENTRY_POINTS = "adm_bench.tables"
Place = Literal["top", "block", "folded", "end"]
"""Where tables stand in the page.

top: before all blocks; block: in the section of their block, before its plots; folded: there, after the plots, shut
until they are clicked; end: there, last. Tables of the suite as a whole stand, except for ``top``, in a section of
their own after all blocks.
"""


@dataclass(frozen=True, kw_only=True)
class TableKind:
    """One kind of table, as a report makes and shows it. At least one of the two functions is given.

    Attributes:
        name: what it is asked for by, and its files' name: lower-case letters, digits and hyphens.
        title: its heading in the page.
        of_block: the tables of one block; a table needs a column with the key ``label``.
        of_suite: the tables of the suite as a whole, given its blocks in order.
        forms: the files that are written of it; it can be printed on a terminal in any case.
        place: where it stands in the page; None: nowhere.
        order: its place among the tables, from the first; those that state none follow by name.
        nothing: what is said in place of tables where a suite has none of them.
        anchor: id of its section in the page, where it has one; ``table-NAME`` by default.
    """

    name: str
    title: str
    of_block: Callable[[Block], Sequence[Table]] | None = None
    of_suite: Callable[[Sequence[Block]], Sequence[Table]] | None = None
    forms: tuple[FileForm, ...] = ("md", "tex", "csv")
    place: Place | None = "end"
    order: float = math.inf
    nothing: str = "this suite has nothing for this table"
    anchor: str = ""

    @property
    def html_id(self) -> str:
        """Id of the section that it has in the page."""
        return self.anchor or f"table-{self.name}"

    def tables(self, blocks: Sequence[Block]) -> list[Table]:
        """All its tables of a suite: block by block, then those of the suite as a whole."""
        return self.make(blocks).tables

    def make(self, blocks: Sequence[Block]) -> Made:
        """Its tables of a suite, those of each block apart.

        Raises:
            RecordError: a table has no column with the key ``label``.
        """
        of_block, of_suite = self.of_block or (lambda _: ()), self.of_suite or (lambda _: ())
        made = Made(self, tuple(tuple(of_block(block)) for block in blocks), tuple(of_suite(blocks)))
        for table in made.tables:
            if "label" not in {column.key for column in table.columns}:
                keys = ", ".join(column.key for column in table.columns)
                raise RecordError(f"table '{self.name}': '{table.title}' has no column 'label', which names its rows; "
                                  f"its columns are {keys or 'none'}")  # fmt: skip
        return made


@dataclass(frozen=True)
class Made:
    """The tables of one kind.

    Attributes:
        kind: the kind.
        of_blocks: those of each block, in the order of the blocks.
        of_suite: those of the suite as a whole.
    """

    kind: TableKind
    of_blocks: tuple[tuple[Table, ...], ...]
    of_suite: tuple[Table, ...]

    @property
    def tables(self) -> list[Table]:
        """All of them, those of blocks first."""
        return [*(table for tables in self.of_blocks for table in tables), *self.of_suite]


_FOLDER = Path(__file__).parent
_known: dict[str, TableKind] = {}


def register(kind: TableKind) -> TableKind:
    """Make a kind of table available under its name.

    Raises:
        RecordError: the name cannot name files, a form is unknown, no function makes tables, or the name is taken by
            another module (both are named).
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]*", kind.name):
        raise RecordError(f"table '{kind.name}': a name has lower-case letters, digits and hyphens, as in 'my-table'")
    if kind.of_block is None and kind.of_suite is None:
        raise RecordError(f"table '{kind.name}': give of_block, of_suite or both: the functions that make its tables")
    unknown = sorted(set(kind.forms).difference(get_args(FileForm)))
    if unknown:
        raise RecordError(
            f"table '{kind.name}': unknown form '{unknown[0]}'; there are {', '.join(get_args(FileForm))}"
        )
    other = _known.get(kind.name)
    if other is not None:
        raise RecordError(f"two tables are named '{kind.name}': in {_origin(other)} and {_origin(kind)}; rename one")
    _known[kind.name] = kind
    return kind


def names() -> list[str]:
    """Every table that can be asked for, in order; of other distributions nothing is imported."""
    built_in = [kind.name for kind in _built_in()]
    return [*built_in, *sorted({point.name for point in _points()} - set(built_in))]


def get(name: str) -> TableKind:
    """The table of that name.

    Raises:
        RecordError: there is none (the nearest is named), or the module that should register it does not.
    """
    if name not in _known and _module_of(name) in _modules():
        importlib.import_module(f"results.tables.{_module_of(name)}")
    for point in _points() if name not in _known else ():
        if point.name == name:
            _load(point)
    if name not in _known:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise RecordError(f"table '{name}': there is no such table; there are {', '.join(names())}{hint}")
    return _known[name]


def kinds() -> list[TableKind]:
    """Every table, in order.

    Raises:
        RecordError: a module of another distribution cannot be imported, registers nothing, or takes a name twice.
    """
    return _in_order([*_built_in(), *map(_load, _points())])


def _built_in() -> list[TableKind]:
    modules = _modules()
    for module in modules:
        importlib.import_module(f"results.tables.{module}")
    return _in_order(kind for kind in _known.values() if _module_of(kind.name) in modules)


def _modules() -> list[str]:
    """The modules of this folder that hold a table."""
    own = ("__init__", Path(__file__).stem)
    return sorted(path.stem for path in _FOLDER.glob("*.py") if path.stem not in own)


def _points() -> list[EntryPoint]:
    return list(entry_points(group=ENTRY_POINTS))


def _load(point: EntryPoint) -> TableKind:
    """The table that an entry point names."""
    where = f"table '{point.name}': entry point '{point.value}'"
    if _module_of(point.name) in _modules():
        raise RecordError(f"{where} takes the name of a built-in table; rename it")
    try:
        point.load()
    except RecordError:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        line = f"line {frame.lineno} of {Path(frame.filename).name}"
        raise RecordError(f"{where} cannot be imported: {type(error).__name__}: {error} ({line})") from error
    if point.name not in _known:
        raise RecordError(f"{where} registers no table of that name; its module calls register(TableKind(name=...))")
    return _known[point.name]


def _module_of(name: str) -> str:
    return name.replace("-", "_")


def _origin(kind: TableKind) -> str:
    """The module that a kind's function comes from, for messages."""
    return str(getattr(kind.of_block or kind.of_suite, "__module__", "an unknown module"))


def _in_order(found: Iterable[TableKind]) -> list[TableKind]:
    return sorted(found, key=lambda kind: (kind.order, kind.name))
