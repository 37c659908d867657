"""The summary: one row per label over all blocks of a suite; online and offline apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from results import statistics
from results.tables.blocks import Block
from results.tables.model import Column, Entry, Row, Table
from results.tables.scores import best_lines, gain_over_baseline, ranked

_COLUMNS = (
    Column("label", "method"),
    Column("rank", "mean rank", "number", 2, "mean over blocks of the rank among complete rows", "low"),
    Column("gain", "mean gain", "number", 2, "mean over blocks of the normalised gain", "high"),
    Column("wins", "wins", "count", 0, "blocks in which it has the best mean", "high"),
    Column("among_best", "among best", "count", 0, "blocks in which it cannot be told from the best", "high"),
    Column("blocks", "blocks", about="blocks in which all its seeds are ok; of how many it stands in"),
)


@dataclass
class _Tally:
    """What one label collects over the blocks."""

    label: str
    is_baseline: bool
    planned: int = 0
    ranks: list[float] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)
    wins: int = 0
    among_best: int = 0

    @property
    def mean_rank(self) -> float | None:
        return math.fsum(self.ranks) / len(self.ranks) if self.ranks else None

    @property
    def complete(self) -> bool:
        return len(self.ranks) == self.planned


def summary(blocks: Sequence[Block]) -> list[Table]:
    """One table per regime, best mean rank first; labels that are incomplete somewhere come last."""
    tables = []
    for regime, title in (("online", "Online, all blocks"), ("offline", "Offline, all blocks")):
        chosen = [block for block in blocks if block.cell.regime == regime]
        if chosen:
            tables.append(_table(chosen, title, regime))
    return tables


def _table(blocks: Sequence[Block], title: str, regime: str) -> Table:
    tallies: dict[str, _Tally] = {}
    for block in blocks:
        _count(block, tallies)
    order = sorted(tallies.values(), key=lambda t: (not t.complete, t.mean_rank or math.inf, t.label))
    best = min((t.mean_rank for t in order if t.complete and t.mean_rank is not None), default=None)
    rows = tuple(_row(tally, best) for tally in order)
    plural = "s" if len(blocks) > 1 else ""
    notes = ["A rank counts the complete rows of a block; equal means share their rank."]
    if any(not tally.complete for tally in order):
        notes.append("Rows that are incomplete in some block come last: their means are over fewer blocks.")
    return Table(
        "summary", title, _COLUMNS, rows, f"{len(blocks)} block{plural}", {"regime": regime}, tuple(notes)
    ).without_empty(frozenset({"label", "rank", "blocks"}))


def _count(block: Block, tallies: dict[str, _Tally]) -> None:
    complete = ranked(block)
    higher = block.primary is None or block.primary.higher_is_better
    means = [math.fsum(values) / len(values) for values in (list(line.values("student").values()) for line in complete)]
    places = {id(line): rank for line, rank in zip(complete, statistics.ranks(means, higher), strict=True)}
    best = {id(line) for line in best_lines(block)}
    for line in block.lines:
        tally = tallies.setdefault(line.label, _Tally(line.label, line.method == block.baseline_method))
        tally.planned += 1
        if id(line) in places:
            tally.ranks.append(places[id(line)])
            tally.wins += places[id(line)] == min(places.values())  # a shared first place is a win for each
            tally.among_best += id(line) in best
            gain = gain_over_baseline(block, line)
            tally.gains += [] if gain is None else [gain]


def _row(tally: _Tally, best: float | None) -> Row:
    bold = tally.complete and tally.mean_rank is not None and tally.mean_rank == best
    gain = math.fsum(tally.gains) / len(tally.gains) if tally.gains else None
    blocks = str(tally.planned) if tally.complete else f"{len(tally.ranks)}/{tally.planned}"
    entries = (
        Entry((tally.label,), bold),
        Entry((tally.mean_rank,), bold),
        Entry((gain,)),
        Entry((tally.wins,)),
        Entry((tally.among_best,)),
        Entry((blocks,)),
    )
    if not tally.complete:
        return Row(entries, "unranked")
    return Row(entries, "baseline" if tally.is_baseline else "ranked")
