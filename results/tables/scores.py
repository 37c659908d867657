"""The score tables: what was learned, with what certainty. They hold no timings.

One table per block: best first; the baseline marked; incomplete rows unranked at the end. Rows that were trained or
scored on different data, by different extractors for instance, are all unranked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from results.analysis import mixture, statistics
from results.analysis.blocks import Block, Line
from results.analysis.ranking import Tested, gain_over_baseline
from results.analysis.statistics import Difference
from results.metrics import SEPARATOR, in_order, metric_column
from results.table import Column, Entry, Row, RowKind, Table, quoted
from results.tables.registry import TableKind, register


@dataclass(frozen=True)
class _Judged:
    """A line with what its comparison with the others gives."""

    line: Line
    summary: statistics.Summary | None
    delta: Difference | None
    gain: float | None
    teacher_delta: Difference | None
    ranked: bool
    bold: bool


def _judge(block: Block, students: Tested, teachers: Tested) -> list[_Judged]:
    """Every line, ranked ones first."""
    placed, best = {id(line) for line in students.lines}, {id(line) for line in students.best}
    rest = sorted((line for line in block.lines if id(line) not in placed), key=lambda line: line.label)
    return [
        _Judged(
            line,
            statistics.summarize(list(line.values("student").values())),
            students.differences.get(id(line)),
            gain_over_baseline(block, line),
            teachers.differences.get(id(line)),
            id(line) in placed,
            id(line) in best,
        )
        for line in [*students.lines, *rest]
    ]


def _table(block: Block) -> Table:
    students, teachers = Tested(block), Tested(block, "teacher")
    judged = _judge(block, students, teachers)
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
        tuple(_notes(block, judged, _test_notes(students, teachers))),
    )
    keep = {"rank", "label", "n", metric}
    return table.without_empty(frozenset(keep))


def _columns(block: Block, metric: str, extra: list[str]) -> tuple[Column, ...]:
    primary = block.primary
    main = metric_column(metric, higher_is_better=primary.higher_is_better if primary else None)
    digits, unit = main.digits, main.title
    tested = "p: Dunnett's test over the column's rows, noise pooled, seeds as blocks"
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
            f"{unit} minus the baseline's, by seed; {tested}",
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
            f"teacher minus the teacher that learned alone, by seed; {tested}",
        ),
        replace(
            metric_column(metric, f"equals_{metric}"),
            title=f"mean {unit}",
            about="mean over all networks or branches that train as equals, what is deployed among them",
        ),
        replace(
            metric_column(metric, f"ensemble_{metric}"),
            title=f"ensemble {unit}",
            about="the mean of the softmax outputs of all of them, which are all run then",
        ),
        *(metric_column(name) for name in extra),
        Column("needs", "needs", about="what the method asks for beyond student, teacher and one batch"),
        Column("chosen", "settings", about="default, published, stated by the suite, or tuned on validation data"),
        Column("state", "status", about="how the seeds ended"),
    )


def _row(block: Block, item: _Judged, rank: int, extra: list[str]) -> Row:
    line, summary = item.line, item.summary
    online = block.cell.regime == "online"
    count = f"{len(line.records)}/{len(line.planned)}" if not line.complete else str(len(line.planned))
    entries = (
        Entry((str(rank) if item.ranked else None,)),
        Entry((line.label,), item.bold),
        Entry((count,)),
        Entry((summary.mean, summary.std) if summary else (None, None), item.bold),
        Entry((summary.low, summary.high) if summary else (None, None)),
        _difference(item.delta),
        Entry((item.gain,)),
        _spread(line.values("teacher") if online else {}),
        _difference(item.teacher_delta if online else None),
        _spread(line.means_of_equals()),
        _spread(line.values("ensemble")),
        *(_spread(line.values("student", name)) for name in extra),
        Entry((", ".join(sorted(line.capabilities)) or None,)),
        Entry((line.chosen,)),
        Entry((None if line.complete else line.state,)),
    )
    kind: RowKind = "baseline" if line is block.baseline else "ranked"
    return Row(entries, kind if item.ranked else "unranked", block.why_not(line))


def _teacher_row(score: float, columns: Sequence[Column], metric: str) -> Row:
    """The reference line with the frozen teacher's score."""
    known: dict[str, tuple[str | float | None, ...]] = {"label": ("frozen teacher",), metric: (score, None)}
    return Row(tuple(Entry(known.get(column.key, (None, None))) for column in columns), "reference")


def _spread(values: Mapping[int, float]) -> Entry:
    summary = statistics.summarize(list(values.values()))
    return Entry((summary.mean, summary.std) if summary else (None, None))


def _difference(difference: Difference | None) -> Entry:
    return Entry((difference.mean, difference.p) if difference else (None, None))


def _notes(block: Block, judged: Sequence[_Judged], tests: Sequence[str]) -> list[str]:
    notes = block.own_parts
    if block.primary:
        how = {
            "last": "after the last epoch",
            "best-validation": "at the epoch that was best on validation data carved from train",
        }
        notes.append(f"Scores are taken {how[block.primary.selection]}.")
    notes += tests
    if block.cell.regime != "alone" and block.baseline is None:
        notes.append(f"No seed of the baseline '{block.baseline_method}' is ok: no differences, no gains.")
    elif block.baseline is not None and block.comparable and not block.stands(block.baseline):
        notes.append(f"The baseline '{block.baseline.label}' is unranked: differences use shared seeds, untested.")
    notes += [_told_stretch(item.line) for item in judged if item.line.stretch]
    if any(not item.ranked for item in judged) and block.comparable:
        notes.append("Unranked rows are incomplete or on other seeds; they take no part in bold print and tests.")
    if len(block.frozen_teacher) > 1:
        notes.append("The rows learned from teachers with different scores: no gains. Train them anew to compare them.")
    elif len(block.teacher_digests) > 1:
        weights = " and ".join(digest[:12] for digest in block.teacher_digests)
        notes.append(
            f"The rows learned from different weights of the teacher, though of equal score: SHA-256 {weights}."
        )
    without_gain = any(item.delta for item in judged) and all(item.gain is None for item in judged)
    if without_gain and _has_teacher(block) and len(block.frozen_teacher) <= 1:
        notes.append("The teacher is not better than the baseline, or within its 95 % interval: no gains.")
    if not block.comparable:
        notes.append(f"Nothing is ranked or compared here, as rows differ in {mixture.told(block)}.")
    return notes


def _told_stretch(line: Line) -> str:
    """How long a row was trained that trains longer than the protocol says."""
    told = next((record.stretched for record in line.records.values() if record.stretched), None)
    if told is None:
        return f"'{line.label}' trains longer than the protocol says."
    why = f": its training costs as much as that of '{told.dearest}', in FLOPs" if told.dearest else ""
    return f"'{line.label}' trains {told.epochs} epochs, {told.factor:.2f} times the protocol's{why}."


def _has_teacher(block: Block) -> bool:
    return bool(block.frozen_teacher or block.solo_teacher)


def _test_notes(students: Tested, teachers: Tested) -> list[str]:
    """What bold and p say in this table."""
    if students.blocked is None:
        return ["Bold: the best mean. Of one seed or one row nothing can be told apart."] if students.best else []
    noisy = quoted([line.label for line in students.noisy])
    apart = f"; the noise of {noisy}, which exceeds the others' grossly, counted apart" if noisy else ""
    down = "down to the last " if noisy else ""
    notes = [
        f"Bold: the best mean, and all {down}that cannot be told from it (Hsu's comparison with the best, 95 %{apart})."
    ]
    if students.blocked.baseline is not None:
        notes.append(_p_note(students, f"'{students.lines[students.blocked.baseline].label}'", noisy))
    if teachers.noisy:
        noisy = quoted([line.label for line in teachers.noisy])
        notes.append(f"Teachers' {_p_note(teachers, 'that of the baseline', noisy)}")
    return notes


def _p_note(tested: Tested, baseline: str, noisy: str) -> str:
    """What p is, of one network."""
    told = f"p: Dunnett's test of the differences to {baseline}; the noise is pooled over rows, by seed"
    if not noisy:
        return f"{told}."
    told = f"{told}, but that of {noisy}, which exceeds the others' grossly: "
    blocked = tested.blocked
    if blocked is None or blocked.baseline is None or not blocked.aside[blocked.baseline]:
        return f"{told}there a paired t-test, Bonferroni-adjusted."
    told += "the baseline's is counted in every difference, as common to all"
    if len(tested.noisy) > 1:
        told += ", and other such rows have a paired t-test, Bonferroni-adjusted"
    return f"{told}."


SCORES = register(
    TableKind(name="scores", title="Scores", of_block=lambda block: [_table(block)], place="block", order=1)
)
