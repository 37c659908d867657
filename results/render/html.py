"""All of a suite on one page that needs no network and no other file; the same bytes for the same records."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from results import plots
from results.analysis.blocks import Block
from results.errors import RecordError
from results.plots import Plot, Series
from results.records.identity import canonical_json
from results.records.schema import Manifest
from results.table import Column, Entry, Row, Table, counted, entry_text
from results.tables.registry import Made, Place, TableKind

_HERE = Path(__file__).parent
_FIXED = ("reference", "unranked")
"""Kinds of rows that sorting leaves at the bottom."""
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class _Samples:
    """The images that a row's networks make.

    Attributes:
        label: the row's.
        seed: of the cell that made them.
        data: the PNG in base64.
    """

    label: str
    seed: int
    data: str


@dataclass(frozen=True)
class _Section:
    """A block as the page shows it.

    Attributes:
        anchor: its id in the page.
        block: the block.
        tables: its tables by their place in the page, each with its kind.
        overview: the plot of all rows.
        panels: the smaller plots.
        samples: the rows' images.
        series: the rows that the panels draw, with their colours.
        left_out: how many rows with a score they do not draw.
        teachers: digest, origin (cell or checkpoint) and score of each frozen teacher.
        environment: what the records were made with: name to the distinct values.
        needs: row to what its method needs beyond the rule.
        open: how many rows are not complete.
    """

    anchor: str
    block: Block
    tables: Mapping[Place, Sequence[tuple[TableKind, Table]]]
    overview: Plot | None
    panels: list[Plot]
    samples: list[_Samples]
    series: list[Series]
    left_out: int
    teachers: list[dict[str, str]]
    environment: dict[str, list[str]]
    needs: dict[str, str]
    open: int
    recipes: dict[str, dict[str, str]]


def render(
    manifest: Manifest,
    blocks: Sequence[Block],
    made: Sequence[Made],
    samples: Mapping[str, Path] | None = None,
    protocols: Mapping[str, Mapping[str, object]] | None = None,
    index: str = "",
) -> str:
    """The page.

    Args:
        manifest: of the suite.
        blocks: its records, arranged.
        made: the suite's tables, kind by kind; those whose kind has no place in the page are left out.
        samples: cell id to a PNG file of the images that its networks make; each row shows its first seed's.
        protocols: digest to the protocol; a block without its own shows none.
        index: address of the page that lists this one, to which a link leads; empty: there is none.

    Raises:
        RecordError: such a file cannot be read, or is no PNG.
    """
    top = [(one.kind, one.tables) for one in made if one.kind.place == "top" and one.tables]
    others = [one for one in made if one.kind.place not in ("top", None)]
    with plots.drawing():
        sections = [
            _section(number, block, _of_block(others, number - 1), _samples(block, samples or {}), protocols or {})
            for number, block in enumerate(blocks, start=1)
        ]
    explained = [table for one in others if one.kind.place == "block" for table in one.tables]
    return fill(
        "page.html.j2",
        ["page.js"],
        manifest=manifest,
        sections=sections,
        top=top,
        rest=[(one.kind, one.of_suite) for one in others if one.of_suite],
        statuses=_statuses(blocks),
        glossary=_glossary(explained + [table for _, tables in top for table in tables]),
        index=index,
    )


def fill(template: str, scripts: Sequence[str], **values: object) -> str:
    """A page of its template and scripts, which lie beside this file, and of values, all of which are escaped."""
    script = "".join((_HERE / name).read_text(encoding="utf-8") for name in scripts)
    return _environment().get_template(template).render(
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
        **values,
    )  # fmt: skip


def anchor(number: int) -> str:
    """Id in the page of a suite's table, by its number from 1."""
    return f"block-{number}"


def _of_block(made: Sequence[Made], index: int) -> dict[Place, list[tuple[TableKind, Table]]]:
    """The tables of one block by their place, kind by kind."""
    places: dict[Place, list[tuple[TableKind, Table]]] = {"block": [], "folded": [], "end": []}
    for one in made:
        if one.kind.place is not None:
            places[one.kind.place] += [(one.kind, table) for table in one.of_blocks[index]]
    return places


def _environment() -> Environment:
    """Escapes everything that is not marked as safe; a misspelt name is an error rather than nothing."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"text_of": entry_text, "value_of": _value, "kind_of": _kind, "label_of": _label}
    environment.tests["fixed"], environment.filters["counted"] = _is_fixed, counted
    return environment


def _section(
    number: int,
    block: Block,
    tables: Mapping[Place, Sequence[tuple[TableKind, Table]]],
    samples: list[_Samples],
    protocols: Mapping[str, Mapping[str, object]],
) -> _Section:
    name = anchor(number)
    series, overview, panels = _plots(block, name) if block.comparable else ([], None, [])
    return _Section(
        name,
        block,
        tables,
        overview,
        panels,
        samples,
        series if any(panel.legend for panel in panels) else [],
        sum(bool(line.records) for line in block.lines) - len(series),
        _teachers(block),
        _versions(block),
        {line.label: ", ".join(sorted(line.capabilities)) for line in block.lines if line.capabilities},
        sum(not line.complete for line in block.lines),
        _recipes(block, protocols),
    )


def _recipes(block: Block, protocols: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, str]]:
    """The protocols of a block, and of its teacher where that has another, where they are known: title to values."""
    cell, found = block.cell, {}
    named = {f"Recipe: {cell.protocol}": cell.protocol_digest}
    if cell.teacher_recipe is not None and cell.teacher_recipe.protocol_digest != cell.protocol_digest:
        named[f"Recipe of the teacher: {cell.teacher_recipe.protocol}"] = cell.teacher_recipe.protocol_digest
    for title, digest in named.items():
        if digest in protocols:
            said = {key: value for key, value in protocols[digest].items() if key not in ("name", "task")}
            found[title] = {"digest": digest, **_flat(said)}
    return found


def _flat(values: Mapping[str, object], place: str = "") -> dict[str, str]:
    """Nested values by their dotted keys; a recipe's stand without ``recipe.`` before them."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, "" if key == "recipe" else f"{place}{key}.")
        elif value is not None and value != {}:
            found[f"{place}{key}"] = value if isinstance(value, str) else canonical_json(value)
    return found


def _plots(block: Block, name: str) -> tuple[list[Series], Plot | None, list[Plot]]:
    """The rows that are told apart by colour, the plot of all rows, and the smaller ones."""
    series = plots.choose(block)
    tradeoff = plots.tradeoff(block, f"{name}-cost")
    panels = ([tradeoff] if tradeoff else []) + plots.curves(block, series, f"{name}-curve")
    return series, plots.intervals(block, f"{name}-scores"), panels


def _samples(block: Block, pictures: Mapping[str, Path]) -> list[_Samples]:
    """For each row the picture of its first seed that has one."""
    found = []
    for line in block.lines:
        shown = next(((seed, r.id) for seed, r in sorted(line.records.items()) if r.id in pictures), None)
        if shown is not None:
            found.append(_Samples(line.label, shown[0], _base64(pictures[shown[1]])))
    return found


def _base64(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    if not content.startswith(_PNG):
        raise RecordError(f"{path}: is no PNG picture; delete it, or make it again with 'adm samples'")
    return base64.b64encode(content).decode()


def _teachers(block: Block) -> list[dict[str, str]]:
    """The frozen teachers that a block's records name: one, unless it was trained anew in between."""
    named = {record.teacher for record in block.records() if record.teacher}
    return [
        {
            "digest": teacher.digest,
            "origin": "cell" if teacher.cell_id else "checkpoint",
            "name": teacher.cell_id or teacher.checkpoint or "",
            "score": "unknown" if teacher.score is None else f"{teacher.score:.2f}",
        }
        for teacher in sorted(named, key=lambda teacher: (teacher.cell_id or "", teacher.digest, teacher.score or 0.0))
    ]


def _versions(block: Block) -> dict[str, list[str]]:
    """What the records were made with; values that differ between records carry their count."""
    found: dict[str, Counter[str]] = {}
    records = block.records()
    for record in records:
        told = {"data digest": record.data_digest, "merged from": record.origin}
        for key, value in [*record.environment.items(), *((key, value) for key, value in told.items() if value)]:
            found.setdefault(key, Counter())[_plain(value)] += 1
    return {
        key: [text if len(values) == 1 else f"{text} ({count} records)" for text, count in sorted(values.items())]
        for key, values in sorted(found.items())
    }


def _plain(value: object) -> str:
    words = {None: "unknown", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _statuses(blocks: Sequence[Block]) -> dict[str, int]:
    """How many cells ended how; ok first."""
    counts = sum((line.statuses for block in blocks for line in block.lines), Counter())
    return dict(sorted(counts.items(), key=lambda item: (item[0] != "ok", item[0])))


def _glossary(tables: Sequence[Table]) -> dict[str, str]:
    """Heading to explanation of every column that has one, each once."""
    return {column.title: column.about for table in tables for column in table.columns if column.about}


def _value(entry: Entry) -> str:
    """What sorting compares: the number itself, not its text; empty for nothing."""
    first = entry.values[0]
    return "" if first is None else first if isinstance(first, str) else repr(float(first))


def _kind(column: Column) -> str:
    return "number" if column.numeric else "text"


def _label(table: Table, row: Row) -> str:
    index = next(i for i, column in enumerate(table.columns) if column.key == "label")
    return table.text(row, index)


def _is_fixed(row: Row) -> bool:
    return row.kind in _FIXED
