"""Many leaderboards as one static site: a page for each suite, and an index that can be searched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from results import report
from results.analysis.blocks import Block
from results.errors import RecordError
from results.records.store import Store
from results.render import html
from results.report import Results
from results.table import Row, Table
from results.tables.registry import Made

INDEX = "index.html"
_FOLDER = "leaderboards"


@dataclass(frozen=True)
class IndexRow:
    """A row of a score table as the index lists it.

    Attributes:
        label: the row's.
        anchor: id of its table in the suite's page.
        rank: its place in its table; empty: it has none.
        score: the student's, as text.
        value: the same as a number for sorting; empty: none.
        best: it is the best, or not told from it.
        kind: ranked, baseline or unranked.
        metric: heading of the score.
        regime: offline, online or peers.
        benchmark: with its version.
        pair: the networks.
        words: what it is found by beside what is shown.
    """

    label: str
    anchor: str
    rank: str
    score: str
    value: str
    best: bool
    kind: str
    metric: str
    regime: str
    benchmark: str
    pair: str
    words: str


@dataclass(frozen=True)
class Leaderboard:
    """A suite as the index lists it.

    Attributes:
        suite: its name.
        title: its title.
        address: of its page, relative to the index.
        tasks: joined by commas, as are the benchmarks.
        benchmarks: with their versions.
        tables: how many.
        cells: how many it has.
        done: how many of them have a score.
        rows: of all its tables, without reference lines.
    """

    suite: str
    title: str
    address: str
    tasks: str
    benchmarks: str
    tables: int
    cells: int
    done: int
    rows: tuple[IndexRow, ...]

    @property
    def words(self) -> str:
        """What it is found by beside what is shown: its name, and its rows' methods, regimes and networks."""
        each = (word for row in self.rows for word in (row.label, row.regime, row.pair))
        return " ".join([self.suite, *dict.fromkeys(each)])


def contents(stores: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """The files of the site, one after the other, the index last: name and content.

    Args:
        stores: folders, of which every suite gets a page.

    Raises:
        RecordError: there is no suite, two stores have suites of one name, or one is damaged. A damaged record is no
            error: its row says what is wrong.
    """
    listed = []
    for suite, store in sorted(_suites(stores).items()):
        found = report.load(store, suite)
        made = report.make_all(found)
        address = f"{_FOLDER}/{suite}.html"
        listed.append(_leaderboard(found, made, address))
        yield address, report.page(found, made, f"../{INDEX}")
    yield INDEX, html.fill("index.html.j2", ["page.js", "index.js"], leaderboards=listed)


def _suites(stores: Sequence[Path]) -> dict[str, Path]:
    """Name of a suite to the store that has it."""
    found: dict[str, Path] = {}
    for store in stores:
        for suite in Store(store).manifests():
            if suite in found:
                told = "make one store of them: adm merge STORE... --into STORE"
                raise RecordError(f"suite '{suite}' is in '{found[suite]}' and in '{store}'; {told}")
            found[suite] = store
    if not found:
        raise RecordError(f"nothing has been run in {', '.join(map(str, stores))}; run a suite first")
    return found


def _leaderboard(found: Results, made: Sequence[Made], address: str) -> Leaderboard:
    """What the index tells of a suite, by its score tables."""
    scores = next(one for one in made if one.kind.name == "scores")
    rows = [
        _row(number, block, table, row)
        for number, (block, tables) in enumerate(zip(found.blocks, scores.of_blocks, strict=True), start=1)
        for table in tables
        for row in table.rows
        if row.kind != "reference"
    ]
    cells = {row.id: row.cell for row in found.manifest.rows}
    return Leaderboard(
        suite=found.manifest.suite,
        title=found.manifest.title,
        address=address,
        tasks=", ".join(sorted({cell.task for cell in cells.values()})),
        benchmarks=", ".join(sorted({cell.benchmark for cell in cells.values()})),
        tables=len(found.blocks),
        cells=len(cells),
        done=len({record.id for block in found.blocks for record in block.records()}),
        rows=tuple(rows),
    )


def _row(number: int, block: Block, table: Table, row: Row) -> IndexRow:
    metric = block.primary.metric if block.primary else "score"
    places = {column.key: place for place, column in enumerate(table.columns)}
    column, entry, rank = table.columns[places[metric]], row.entries[places[metric]], row.entries[places["rank"]]
    value = entry.values[0]
    return IndexRow(
        label=table.text(row, places["label"]),
        anchor=html.anchor(number),
        rank=str(rank.values[0] or ""),
        score=table.text(row, places[metric]),
        value="" if value is None else repr(value),
        best=entry.bold,
        kind=row.kind,
        metric=column.heading,
        regime=block.cell.regime,
        benchmark=block.cell.benchmark,
        pair=block.pair,
        words=f"{block.cell.task} {block.title}",
    )
