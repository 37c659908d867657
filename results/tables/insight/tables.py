"""The paper's observations as tables, one per question, each with sentences that say where they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.analysis.blocks import Block, Line
from results.analysis.bootstrap import RESAMPLES
from results.analysis.insight import Estimate, Measured, Quantity, Values, estimates, per_image, without_adm
from results.table import PARTS, Column, Entry, Row, RowKind, Table, listed
from results.tables.insight import columns, words
from results.tables.insight.columns import Spec

_QUESTIONS: tuple[tuple[str, str, tuple[Spec, ...], words.Sentence], ...] = (
    ("insight-1", "Insight 1, where student and teacher agree", columns.AGREEMENT, words.agreement),
    ("insight-2", "Insight 2, who emphasises the object", columns.EMPHASIS, words.emphasis),
    ("insight-3", "Insight 3, where their activations differ most", columns.DIFFERENCE, words.difference),
)


@dataclass(frozen=True)
class Looked:
    """A block and what was measured of its cells.

    Attributes:
        block: the block.
        measured: cell id to its measures.
        reasons: cell id to why it could not be measured.
    """

    block: Block
    measured: Mapping[str, Measured]
    reasons: Mapping[str, str]

    def seeds(self, line: Line) -> dict[int, Measured]:
        """Seed to what was measured, for one row."""
        found = {seed: self.measured.get(record.id) for seed, record in sorted(line.records.items())}
        return {seed: measured for seed, measured in found.items() if measured}


def tables_of(looked: Sequence[Looked]) -> list[Table]:
    """Four tables per block: agreement, emphasis, difference, and what ADM changes.

    Blocks of which nothing was measured are left out.
    """
    tables = []
    for one in looked:
        if one.measured:
            tables += [*(_question(one, *question) for question in _QUESTIONS), _changes(one)]
    return tables


def as_plain(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """Tables as plain JSON values: what they share, their notes, and each row by the names that CSV has."""
    plain = []
    for table in tables:
        rows = []
        for row in table.rows:
            fields: dict[str, Any] = {"kind": row.kind, "note": row.note}
            for column, entry in zip(table.columns, row.entries, strict=True):
                values = (*entry.values, *[None] * len(PARTS[column.kind]))
                fields |= {column.key + part: value for part, value in zip(PARTS[column.kind], values, strict=False)}
            rows.append(fields)
        plain.append({"table": table.name, "title": table.title, **table.context, "rows": rows, "notes": table.notes})
    return plain


def _question(looked: Looked, name: str, title: str, specs: tuple[Spec, ...], told: words.Sentence) -> Table:
    block, found, rows = looked.block, {}, []
    quantities = {column.key: make for column, make in specs}
    for line in block.lines:
        seeds = looked.seeds(line)
        if seeds:
            found[line.label] = estimates(per_image([m.values for m in seeds.values()], quantities))
        kind: RowKind = "unranked" if not seeds else "baseline" if line is block.baseline else "ranked"
        rows.append(_row(line.label, len(seeds), specs, found.get(line.label), kind, _why(looked, line)))
    some = next(iter(looked.measured.values()))
    height, width = some.grid
    references = (
        _reference("chance", some.values, specs, columns.CHANCE),
        _reference(f"the object at {height}×{width}", some.values, specs, columns.CEILING),
    )
    rows = [row for row in references if row] + rows
    notes = (told(found), words.UNDECIDED, *_notes(looked, some))
    return Table(name, f"{title}: {block.title}", _columns(specs), tuple(rows), block.subtitle, block.context, notes)


def _changes(looked: Looked) -> Table:
    """The rows with ADM minus the same rows without it."""
    block, found, rows = looked.block, {}, []
    apart: list[str] = []
    frozen = block.cell.regime == "offline"
    specs = tuple(spec for spec in columns.CHANGE if not (frozen and spec[0].key.startswith("teacher")))
    for line, partner in _partners(block):
        label = f"{line.label} − {partner.label}"
        ours, theirs = looked.seeds(line), looked.seeds(partner)
        shared = sorted(ours.keys() & theirs.keys())
        if not shared:
            continue
        if {ours[seed].places for seed in shared} != {theirs[seed].places for seed in shared}:
            apart.append(label)
            continue
        sides = [ours[seed].values for seed in shared] + [theirs[seed].values for seed in shared]
        arrays = per_image(sides, {column.key: make for column, make in specs})
        halves = {key: array[: len(shared)] - array[len(shared) :] for key, array in arrays.items()}
        found[label] = estimates(halves)
        rows.append(_row(label, len(shared), specs, found[label], "ranked", ""))
    notes = [*words.change(found, frozen), words.UNDECIDED] if found else []
    if apart:
        notes.append(f"Not compared, as S was read at other places: {listed(apart)}.")
    if not found and not apart:
        notes.append("Nothing to compare: no measured row with ADM stands beside the same row without it.")
    notes += _notes(looked, next(iter(looked.measured.values()))) if found else []
    title = f"What ADM changes: {block.title}"
    return Table("insight-4", title, _columns(specs), tuple(rows), block.subtitle, block.context, tuple(notes))


def _partners(block: Block) -> list[tuple[Line, Line]]:
    """Each row with ADM beside the row that is the same without it; ``adm`` alone beside the baseline."""
    methods = {id(line): next(iter(line.records.values())).cell.method for line in block.lines if line.records}
    found = []
    for line in block.lines:
        rest = without_adm(methods.get(id(line), ()))
        for other in block.lines if rest is not None else ():
            if id(other) in methods and (methods[id(other)] == rest or (not rest and other is block.baseline)):
                found.append((line, other))
    return found


def _row(
    label: str, seeds: int, specs: Sequence[Spec], found: Mapping[str, Estimate] | None, kind: RowKind, why: str
) -> Row:
    entries = [Entry((label,)), Entry((seeds,))]
    for column, _ in specs:
        if found is None:
            entries.append(Entry())
            continue
        one = found[column.key]
        entries.append(Entry((one.mean, one.std) if column.kind == "spread" else (one.mean, one.low, one.high)))
    return Row(tuple(entries), kind, why)


def _reference(label: str, values: Values, specs: Sequence[Spec], known: Mapping[str, Quantity]) -> Row | None:
    """A line to hold the rows against; None where it has nothing to say of these columns."""
    shown = {column.key: known[column.key] for column, _ in specs if column.key in known}
    if not shown:
        return None
    means = {key: float(array.mean()) for key, array in per_image([values], shown).items()}
    entries = [Entry((means.get(column.key),)) for column, _ in specs]
    return Row((Entry((label,)), Entry(), *entries), "reference")


def _columns(specs: Sequence[Spec]) -> tuple[Column, ...]:
    return (Column("label", "method"), Column("n", "seeds", "count"), *(column for column, _ in specs))


def _why(looked: Looked, line: Line) -> str:
    """Why seeds of a row are missing from its numbers."""
    told = {looked.reasons[record.id] for record in line.records.values() if record.id in looked.reasons}
    return "; ".join([*sorted(told), *([] if line.complete else [line.why or line.state])])


def _notes(looked: Looked, some: Measured) -> list[str]:
    images = per_image([some.values], {"area": lambda values: values["area"]})["area"]
    places = listed(sorted({measured.places for measured in looked.measured.values()}))
    return [
        f"[ ]: 95 % intervals over {images.size} test images, paired bootstrap, {RESAMPLES} resamples; each image "
        "carries its mean over seeds. They hold for the networks that were trained; ±: std over seeds.",
        f"The object covers {100 * float(images.mean()):.1f} % of an image on average. Read in evaluation mode at "
        f"{places}.",
    ]
