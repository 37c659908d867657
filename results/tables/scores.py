"""The score tables: what was learned, with what certainty. They hold no timings.

One table per block: best first; the baseline marked; incomplete rows unranked at the end. Rows that were trained or
scored on different data, by different extractors for instance, are all unranked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from results.analysis import mixture, statistics
from results.analysis.blocks import Block, Line
from results.analysis.ranking import best_lines, gain_over_baseline, ranked
from results.analysis.statistics import Difference
from results.metrics import SEPARATOR, in_order, metric_column
from results.table import Column, Entry, Row, RowKind, Table
from results.tables.registry import TableKind, register


@dataclass(frozen=True)
class _Judged:
    """A line with what its comparison with the others gives."""

    line: Line
    summary: statistics.Summary | None
    delta: Difference | None
    gain: float | None
    teacher_delta: Difference | None
    bold: bool = False


def _judge(block: Block) -> list[_Judged]:
    """Every line, ranked ones first, with differences adjusted over the complete lines of the block."""
    first = ranked(block)
    placed = {id(line) for line in first}
    rest = sorted((line for line in block.lines if id(line) not in placed), key=lambda line: line.label)
    baseline, best = block.baseline, best_lines(block)
    none = baseline.values("student") if baseline and block.comparable else {}
    solo = block.solo_teacher if block.comparable else {}
    judged = []
    for line in [*first, *rest]:
        student = line.values("student")
        other = line is not baseline
        judged.append(
            _Judged(
                line,
                statistics.summarize(list(student.values())),
                statistics.paired_difference(student, none) if other else None,
                gain_over_baseline(block, line),
                statistics.paired_difference(line.values("teacher"), solo) if other else None,
                any(line is winner for winner in best),
            )
        )
    deltas = _adjust([item.delta for item in judged], len(first))
    teachers = _adjust([item.teacher_delta for item in judged], len(first))
    return [
        replace(item, delta=delta, teacher_delta=teacher)
        for item, delta, teacher in zip(judged, deltas, teachers, strict=True)
    ]


def _adjust(differences: list[Difference | None], family: int) -> list[Difference | None]:
    """Holm over the first ``family`` differences; the others, of incomplete rows, lose their p-value."""
    tested = [i for i, d in enumerate(differences[:family]) if d is not None and d.p is not None]
    raw = [d.p for i in tested if (d := differences[i]) is not None and d.p is not None]
    adjusted = dict(zip(tested, statistics.holm(raw), strict=True))
    return [replace(d, p=adjusted.get(i)) if d is not None else None for i, d in enumerate(differences)]


def _table(block: Block) -> Table:
    judged = _judge(block)
    metric = block.primary.metric if block.primary else "score"
    extra = in_order(
        m for r in block.records() for m in r.scores.get("student", {}) if m != metric and SEPARATOR not in m
    )
    columns = _columns(block, metric, extra)
    rows = [_row(block, item, rank, extra) for rank, item in enumerate(judged, start=1)]
    rows = [_teacher_row(score, columns, metric) for score in block.frozen_teacher] + rows
    table = Table(
        "scores",
        block.title,
        columns,
        tuple(rows),
        block.subtitle,
        block.context,
        tuple(_notes(block, judged)),
    )
    keep = {"rank", "label", "n", metric}
    return table.without_empty(frozenset(keep))


def _columns(block: Block, metric: str, extra: list[str]) -> tuple[Column, ...]:
    primary = block.primary
    main = metric_column(metric, higher_is_better=primary.higher_is_better if primary else None)
    digits, unit = main.digits, main.title
    adjusted = "p: paired t-test, Holm-adjusted over the table"
    return (
        Column("rank", "#", "text"),
        Column("label", "method", about="how the student learns"),
        Column("n", "seeds", about="seeds that are ok; of how many planned, where some are missing"),
        main,
        Column(f"{metric}_ci", "95 % CI", "interval", digits, "t-interval of the mean over seeds"),
        Column(
            f"{metric}_delta",
            "Δ none",
            "difference",
            digits,
            f"{unit} minus the baseline's, by seed; {adjusted}",
        ),
        Column("gain", "gain", "number", 2, "(method - none) / (teacher - none): 1 means as good as the teacher"),
        replace(
            metric_column(metric, f"teacher_{metric}"),
            title=f"teacher {unit}",
            about="the co-trained teacher",
        ),
        Column(
            f"teacher_{metric}_delta",
            "teacher Δ solo",
            "difference",
            digits,
            f"teacher minus the teacher that learned alone, by seed; {adjusted}",
        ),
        *(metric_column(name) for name in extra),
        Column("needs", "needs", about="what the method asks for beyond student, teacher and one batch"),
        Column("state", "status", about="how the seeds ended"),
    )


def _row(block: Block, item: _Judged, rank: int, extra: list[str]) -> Row:
    line, summary = item.line, item.summary
    online = block.cell.regime == "online"
    is_ranked = line.complete and summary is not None and block.comparable
    teacher = statistics.summarize(list(line.values("teacher").values())) if online else None
    count = f"{len(line.records)}/{len(line.planned)}" if not line.complete else str(len(line.planned))
    entries = (
        Entry((str(rank) if is_ranked else None,)),
        Entry((line.label,), item.bold),
        Entry((count,)),
        Entry((summary.mean, summary.std) if summary else (None, None), item.bold),
        Entry((summary.low, summary.high) if summary else (None, None)),
        _difference(item.delta),
        Entry((item.gain,)),
        Entry((teacher.mean, teacher.std) if teacher else (None, None)),
        _difference(item.teacher_delta if online else None),
        *(_spread(line, name) for name in extra),
        Entry((", ".join(sorted(line.capabilities)) or None,)),
        Entry((None if line.complete else line.state,)),
    )
    kind: RowKind = "baseline" if line is block.baseline else "ranked"
    return Row(entries, kind if is_ranked else "unranked", line.why)


def _teacher_row(score: float, columns: Sequence[Column], metric: str) -> Row:
    """The reference line with the frozen teacher's score."""
    known: dict[str, tuple[str | float | None, ...]] = {"label": ("frozen teacher",), metric: (score, None)}
    return Row(tuple(Entry(known.get(column.key, (None, None))) for column in columns), "reference")


def _spread(line: Line, metric: str) -> Entry:
    summary = statistics.summarize(list(line.values("student", metric).values()))
    return Entry((summary.mean, summary.std) if summary else (None, None))


def _difference(difference: Difference | None) -> Entry:
    return Entry((difference.mean, difference.p) if difference else (None, None))


def _notes(block: Block, judged: Sequence[_Judged]) -> list[str]:
    notes = block.own_networks
    if block.primary:
        how = {
            "last": "after the last epoch",
            "best-validation": "at the epoch that was best on validation data carved from train",
        }
        notes.append(f"Scores are taken {how[block.primary.selection]}.")
    if any(item.bold for item in judged):
        notes.append(_bold_note(judged))
    if block.cell.regime != "alone" and block.baseline is None:
        notes.append(f"No seed of the baseline '{block.baseline_method}' is ok: no differences, no gains.")
    elif block.baseline is not None and not block.baseline.complete:
        notes.append(f"The baseline '{block.baseline.label}' is incomplete; differences use the seeds it has.")
    if any(not item.line.complete for item in judged):
        notes.append("Incomplete rows are shown unranked and take no part in bold print or adjustment.")
    if len(block.frozen_teacher) > 1:
        notes.append("The rows learned from teachers with different scores: no gains. Train them anew to compare them.")
    elif any(item.delta for item in judged) and all(item.gain is None for item in judged) and _has_teacher(block):
        notes.append("The teacher is not better than the baseline: no gains.")
    if not block.comparable:
        notes.append(f"Nothing is ranked or compared here, as rows differ in {mixture.told(block)}.")
    return notes


def _has_teacher(block: Block) -> bool:
    return bool(block.frozen_teacher or block.solo_teacher)


def _bold_note(judged: Sequence[_Judged]) -> str:
    if any(item.bold and item.line.complete and len(item.line.records) > 1 for item in judged):
        return "Bold: the best mean, and all that a paired t-test cannot tell from it (Holm-adjusted p ≥ 0.05)."
    return "Bold: the best mean. One seed each: nothing can be told apart with certainty."


SCORES = register(
    TableKind(name="scores", title="Scores", of_block=lambda block: [_table(block)], place="block", order=1)
)
