"""The summary: one row per label and settings over the blocks of a regime; tasks and conditions apart. Of one block its
table of scores says all that there is, so a summary is of two or more.

Only what is complete in every block is ranked, so that all ranked rows are measured by the same blocks and against the
same rivals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from results.analysis import statistics
from results.analysis.blocks import Block, Line
from results.analysis.ranking import best_lines, gains_by_seed, ranked
from results.records.identity import canonical_json
from results.records.schema import MethodPart
from results.table import Column, Entry, Row, Table
from results.tables.registry import TableKind, register

_NAMED = 3
"""How many blocks are named in the reason of a row."""


@dataclass
class _Standing:
    """A row of the summary.

    Attributes:
        label: what the suite calls it.
        method: with the settings in force, which are the same in all its blocks.
        lines: its row in each block, by the block's place.
        is_baseline: whether others are compared with it.
        beaten: for each block, the share of the other ranked rows that have a worse mean, in %; ties count half.
        gains: for each block that has gains, its own by seed.
        wins: blocks in which it has the best mean.
        among_best: blocks in which it cannot be told from the best.
    """

    label: str
    method: tuple[MethodPart, ...]
    lines: dict[int, Line]
    is_baseline: bool
    beaten: list[float] = field(default_factory=list)
    gains: list[Mapping[int, float]] = field(default_factory=list)
    wins: int = 0
    among_best: int = 0

    @property
    def is_rival(self) -> bool:
        """Whether it is a method that is compared with the baseline: not that itself, trained longer or not."""
        return not self.is_baseline and not any(line.stretch for line in self.lines.values())

    @property
    def percentile(self) -> float | None:
        """100 for the best of every block, 0 for the last of every block; None for a row without rivals."""
        return math.fsum(self.beaten) / len(self.beaten) if self.beaten else None

    @property
    def gain(self) -> statistics.Summary | None:
        """For every seed the median of the gains over blocks; of these the mean and its interval."""
        seeds = sorted(set.intersection(*(set(gains) for gains in self.gains))) if self.gains else []
        return statistics.summarize([median(gains[seed] for gains in self.gains) for seed in seeds])


def _tables(blocks: Sequence[Block]) -> list[Table]:
    """Tables per regime and condition: one per task, where a method beside the baseline stands in all its blocks, and
    one over all tasks where two rows or more do. A row that is trained longer is a control, and no such method."""
    tables = []
    conditions = list(dict.fromkeys(block.cell.condition for block in blocks))
    for regime, title in (("online", "Online"), ("offline", "Offline"), ("peers", "Among peers")):
        for condition in conditions:
            chosen = [b for b in blocks if (b.cell.regime, b.cell.condition) == (regime, condition)]
            tables += _of_tasks(chosen, f"{title}, {condition}" if condition else title, regime)
    return tables


def _of_tasks(blocks: Sequence[Block], title: str, regime: str) -> list[Table]:
    tasks = list(dict.fromkeys(block.cell.task for block in blocks))
    tables = []
    for task in tasks:
        own = [block for block in blocks if block.cell.task == task]
        if len(own) > 1 and any(len(row.lines) == len(own) and row.is_rival for row in _standings(own)):
            tables.append(_table(own, f"{title}, {task if len(tasks) > 1 else 'all blocks'}", regime, task))
    if len(tasks) > 1:
        everywhere = [row for row in _standings(blocks) if len(row.lines) == len(blocks)]
        if len(everywhere) > 1 and any(row.is_rival for row in everywhere):
            tables.append(_table(blocks, f"{title}, all tasks", regime, "all"))
    return tables


def _table(blocks: Sequence[Block], title: str, regime: str, task: str) -> Table:
    counted = [block for block in blocks if block.comparable]
    rows = [row for row in _standings(counted) if task != "all" or len(row.lines) == len(counted)]
    complete = [row for row in rows if _is_complete(row, counted)]
    for place, block in enumerate(counted):
        _count(block, place, complete)
    kept = {id(row) for row in complete}
    complete.sort(key=lambda row: (-(row.percentile or 0.0), -(row.gain.mean if row.gain else 0.0), row.label))
    rest = sorted((row for row in rows if id(row) not in kept), key=lambda row: row.label)
    names = _names(rows)
    return Table(
        "summary",
        title,
        _COLUMNS,
        (*(_ranked_row(row, names[id(row)], len(counted)) for row in complete),
         *(_unranked_row(row, names[id(row)], counted) for row in rest)),
        f"{len(counted)} block{'' if len(counted) == 1 else 's'}",
        {"regime": regime, "task": task, **blocks[0].condition},
        tuple(_notes(complete, rest, counted, blocks)),
    ).without_empty(frozenset({"label", "percentile", "blocks"}))  # fmt: skip


_COLUMNS = (
    Column("label", "method"),
    Column("percentile", "rank percentile", "number", 1,
           "mean over blocks of the share of the other ranked rows that it beats; 100: best everywhere", "high"),
    Column("gain", "median gain", "estimate", 2,
           "normalised gain, its median over blocks, for each seed; mean over seeds and 95 % interval", "high"),
    Column("wins", "wins", "count", 0, "blocks in which it has the best mean of the block's table", "high"),
    Column("among_best", "among best", "count", 0,
           "blocks in which it cannot be told from the best: it is bold", "high"),
    Column("blocks", "blocks", about="blocks in which all its seeds are ok; of how many, where that is not all"),
)  # fmt: skip


def _standings(blocks: Sequence[Block]) -> list[_Standing]:
    """Every label with its settings; of each block the first row that has both."""
    found: dict[tuple[str, str], _Standing] = {}
    for place, block in enumerate(blocks):
        for line in block.lines:
            key = (line.label, canonical_json([part.model_dump(exclude={"at_default"}) for part in line.parts]))
            baseline = line.method == block.baseline_method
            row = found.setdefault(key, _Standing(line.label, line.parts, {}, baseline))
            row.lines.setdefault(place, line)
    return list(found.values())


def _is_complete(row: _Standing, blocks: Sequence[Block]) -> bool:
    return all(place in row.lines and block.stands(row.lines[place]) for place, block in enumerate(blocks))


def _count(block: Block, place: int, rows: Sequence[_Standing]) -> None:
    """Enter one block into the rows that are complete everywhere."""
    order, best = ranked(block), {id(line) for line in best_lines(block)}
    means = {id(line): math.fsum(values := line.values("student").values()) / len(values) for line in order}
    places = statistics.ranks([means[id(row.lines[place])] for row in rows], block.higher_is_better)
    for row, rank in zip(rows, places, strict=True):
        line = row.lines[place]
        if len(rows) > 1:
            row.beaten.append(100 * (len(rows) - rank) / (len(rows) - 1))
        row.wins += means[id(line)] == means[id(order[0])]  # a shared first place is a win for each
        row.among_best += id(line) in best
        gains = gains_by_seed(block, line)
        if gains:
            row.gains.append(gains)


def _names(rows: Sequence[_Standing]) -> dict[int, str]:
    """Each row's label by its id; with what sets it apart where several settings go by one label."""
    names = {}
    for row in rows:
        others = [other for other in rows if other.label == row.label and other is not row]
        apart = [text for text in _settings(row) if any(text not in _settings(other) for other in others)]
        names[id(row)] = f"{row.label} ({', '.join(apart)})" if apart else row.label
    return names


def _settings(row: _Standing) -> list[str]:
    """The parts with their versions, and their settings, as texts."""
    return [
        text
        for part in row.method
        for text in (f"{part.name} {part.version}", *(f"{key} {canonical_json(v)}" for key, v in part.settings.items()))
    ]


def _ranked_row(row: _Standing, name: str, blocks: int) -> Row:
    gain = row.gain
    entries = (
        Entry((name,)),
        Entry((row.percentile,)),
        Entry((gain.mean, gain.low, gain.high) if gain else (None, None, None)),
        Entry((row.wins,)),
        Entry((row.among_best,)),
        Entry((str(blocks),)),
    )
    return Row(entries, "baseline" if row.is_baseline else "ranked")


def _unranked_row(row: _Standing, name: str, blocks: Sequence[Block]) -> Row:
    good = sum(block.stands(row.lines[place]) for place, block in enumerate(blocks) if place in row.lines)
    nothing = Entry((None,))
    entries = (Entry((name,)), nothing, Entry((None, None, None)), nothing, nothing, Entry((f"{good}/{len(blocks)}",)))
    return Row(entries, "unranked", _why_not(row, blocks))


def _why_not(row: _Standing, blocks: Sequence[Block]) -> str:
    """In which blocks a row does not stand, or not completely."""
    absent = [_title(block) for place, block in enumerate(blocks) if place not in row.lines]
    short = [
        f"{_title(block)}: {row.lines[place].state if not row.lines[place].complete else 'other seeds'}"
        for place, block in enumerate(blocks)
        if place in row.lines and not block.stands(row.lines[place])
    ]
    told = [f"{what} in {_some(titles)}" for what, titles in (("not", absent), ("incomplete", short)) if titles]
    return "; ".join(told)


def _some(titles: Sequence[str]) -> str:
    more = len(titles) - _NAMED
    return ", ".join(titles[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _title(block: Block) -> str:
    return f"{block.title} ({block.pair})"


def _notes(
    complete: Sequence[_Standing], rest: Sequence[_Standing], counted: Sequence[Block], blocks: Sequence[Block]
) -> list[str]:
    notes = []
    if len(complete) > 1:
        notes.append("Rank percentile: the share of the other ranked rows that a row beats, mean over blocks.")
    with_gain = max((len(row.gains) for row in complete), default=0)
    if with_gain:
        notes.append(
            "Median gain: over blocks, for each seed; mean over seeds with its 95 % interval, each row by itself."
        )
        if with_gain < len(counted):
            notes.append(
                f"Gains: {with_gain} of {len(counted)} blocks; elsewhere the teacher is not better than the baseline."
            )
    if rest:
        notes.append("Ranked are rows that are complete in every block, with the same settings; the others come last.")
    left_out = [_title(block) for block in blocks if not block.comparable]
    if left_out:
        notes.append(f"Left out, as their rows were trained or scored on different data: {', '.join(left_out)}.")
    return notes


SUMMARY = register(
    TableKind(
        name="summary",
        title="Summary",
        of_suite=_tables,
        place="top",
        order=5,
        nothing="no two blocks of this suite have regime and condition in common; see its scores",
        anchor="summary",
    )
)
