"""The summary: one row per label over all blocks of a suite; online and offline apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from results.analysis import statistics
from results.analysis.blocks import Block
from results.analysis.ranking import best_lines, gain_over_baseline, ranked
from results.table import Column, Entry, Row, Table
from results.tables.registry import TableKind, register


@dataclass
class _Tally:
    """What one label collects over the blocks; gains by task."""

    label: str
    is_baseline: bool
    planned: int = 0
    ranks: list[float] = field(default_factory=list)
    gains: dict[str, list[float]] = field(default_factory=dict)
    wins: int = 0
    among_best: int = 0

    @property
    def mean_rank(self) -> float | None:
        return _mean(self.ranks)

    @property
    def complete(self) -> bool:
        return len(self.ranks) == self.planned

    @property
    def mean_gain(self) -> float | None:
        """Over all blocks of all tasks."""
        return _mean([gain for gains in self.gains.values() for gain in gains])

    def mean_gain_of(self, task: str) -> float | None:
        """Over the blocks of one task."""
        return _mean(self.gains.get(task, []))


def _tables(blocks: Sequence[Block]) -> list[Table]:
    """One table per regime, best mean rank first; labels that are incomplete somewhere come last.

    Blocks whose rows may not be compared are left out. Where a regime has several tasks, each has a column for its
    mean gain beside the one over all blocks: the gain is what accuracy, mIoU and generation scores have in common.
    """
    tables = []
    for regime, title in (("online", "Online"), ("offline", "Offline"), ("peers", "Among peers")):
        chosen = [block for block in blocks if block.cell.regime == regime]
        if chosen:
            tables.append(_table(chosen, f"{title}, all blocks", regime))
    return tables


def _table(blocks: Sequence[Block], title: str, regime: str) -> Table:
    counted = [block for block in blocks if block.comparable]
    tallies: dict[str, _Tally] = {}
    for block in counted:
        _count(block, tallies)
    order = sorted(tallies.values(), key=lambda t: (not t.complete, t.mean_rank or math.inf, t.label))
    best = min((t.mean_rank for t in order if t.complete and t.mean_rank is not None), default=None)
    tasks = list(dict.fromkeys(block.cell.task for block in counted))
    shown = tasks if len(tasks) > 1 else []
    return Table(
        "summary",
        title,
        _columns(shown),
        tuple(_row(tally, best, shown) for tally in order),
        f"{len(counted)} block{'' if len(counted) == 1 else 's'}",
        {"regime": regime},
        tuple(_notes(order, [block for block in blocks if not block.comparable])),
    ).without_empty(frozenset({"label", "rank", "blocks"}))


def _columns(tasks: Iterable[str]) -> tuple[Column, ...]:
    return (
        Column("label", "method"),
        Column("rank", "mean rank", "number", 2, "mean over blocks of the rank among complete rows", "low"),
        Column("gain", "mean gain", "number", 2, "mean over blocks of the normalised gain", "high"),
        *(
            Column(f"gain_{task}", f"gain {task}", "number", 2, f"mean gain over the blocks of {task} alone", "high")
            for task in tasks
        ),
        Column("wins", "wins", "count", 0, "blocks in which it has the best mean", "high"),
        Column("among_best", "among best", "count", 0, "blocks in which it cannot be told from the best", "high"),
        Column("blocks", "blocks", about="blocks in which all its seeds are ok; of how many it stands in"),
    )


def _notes(order: Sequence[_Tally], left_out: Sequence[Block]) -> list[str]:
    notes = ["A rank counts the complete rows of a block; equal means share their rank."]
    if any(not tally.complete for tally in order):
        notes.append("Rows that are incomplete in some block come last: their means are over fewer blocks.")
    if left_out:
        titles = ", ".join(f"{block.title} ({block.pair})" for block in left_out)
        notes.append(f"Left out, as their rows were trained or scored on different data: {titles}.")
    return notes


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
            tally.gains.setdefault(block.cell.task, []).extend([] if gain is None else [gain])


def _row(tally: _Tally, best: float | None, tasks: Iterable[str]) -> Row:
    bold = tally.complete and tally.mean_rank is not None and tally.mean_rank == best
    blocks = str(tally.planned) if tally.complete else f"{len(tally.ranks)}/{tally.planned}"
    entries = (
        Entry((tally.label,), bold),
        Entry((tally.mean_rank,), bold),
        Entry((tally.mean_gain,)),
        *(Entry((tally.mean_gain_of(task),)) for task in tasks),
        Entry((tally.wins,)),
        Entry((tally.among_best,)),
        Entry((blocks,)),
    )
    if not tally.complete:
        return Row(entries, "unranked")
    return Row(entries, "baseline" if tally.is_baseline else "ranked")


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


SUMMARY = register(
    TableKind(
        name="summary",
        title="Summary",
        of_suite=_tables,
        place="top",
        order=5,
        nothing="no block of this suite has a teacher",
        anchor="summary",
    )
)
