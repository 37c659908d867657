"""The table of controls: each row that names some, held against each of them; the suite says which before it is run.

A row's control differs from it in what is asked about: a method without the part that is new, weights that are uniform,
or a longer training for the same computing. Where a suite's settings are tuned each of the two has its own best ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from results.analysis.blocks import Block, Line
from results.analysis.ranking import Tested
from results.metrics import metric_column
from results.table import Column, Entry, Row, Table, listed, quoted
from results.tables.registry import TableKind, register


def _table(block: Block) -> list[Table]:
    named = _named(block)
    if not named or block.primary is None:
        return []
    metric = metric_column(block.primary.metric, higher_is_better=block.primary.higher_is_better)
    networks = ("student", "teacher") if block.solo_teacher else ("student",)
    columns = (
        Column("label", "method"),
        Column("control", "against"),
        *(column for network in networks for column in _columns(network, metric)),
    )
    tested = [Tested(block, network) for network in networks]
    entries = [_entries(each, named) for each in tested]
    standing = {id(line) for line in tested[0].lines}
    rows = []
    for place, (line, control) in enumerate(named):
        missing = [each for each in (line, control) if id(each) not in standing]
        note = "; ".join(f"{each.label}: {block.why_not(each) or each.state}" for each in missing)
        own = (entry for of_network in entries for entry in of_network[place])
        rows.append(
            Row((Entry((line.label,)), Entry((control.label,)), *own), "unranked" if missing else "ranked", note)
        )
    table = Table("controls", block.title, columns, tuple(rows), block.subtitle, block.context, (_note(tested),))
    return [table.without_empty(frozenset({"label", "control"}))]


def _note(tested: Sequence[Tested]) -> str:
    """What difference and p are in this table."""
    if all(each.blocked is None for each in tested):
        return "Nothing can be told: a test needs a row and its control, complete on the same two seeds or more."
    told = (
        "Row minus control by seed, each with its own 95 % interval; p by Holm over the column, the noise pooled over"
    )
    noisy = [
        f"of {each.network}s that of {quoted([line.label for line in each.noisy])}" for each in tested if each.noisy
    ]
    if not noisy:
        return f"{told} the table's rows."
    return f"{told} the table's rows but where it is grossly larger ({listed(noisy)}): pairs with those have their own."


def _named(block: Block) -> list[tuple[Line, Line]]:
    """Every row with each of its controls, in the suite's order."""
    by_label = {line.label: line for line in block.lines}
    return [(line, by_label[name]) for line in block.lines for name in line.controls if name in by_label]


def _columns(network: str, metric: Column) -> tuple[Column, Column]:
    prefix, of = ("", "") if network == "student" else ("teacher_", "teacher ")
    about = f"{metric.title} of the {network}, the row's minus its control's; mean over seeds and 95 % interval"
    return (
        Column(f"{prefix}difference", f"{of}Δ {metric.title}", "change", metric.digits, about, metric.best),
        Column(f"{prefix}p", f"{of}p", "p", about="two-sided t-test with seeds as blocks, adjusted over the column"),
    )


def _entries(tested: Tested, named: Sequence[tuple[Line, Line]]) -> list[tuple[Entry, Entry]]:
    """Difference and p of every pair; empty for those that cannot be tested."""
    place = {id(line): number for number, line in enumerate(tested.lines)}
    able = [number for number, pair in enumerate(named) if all(id(line) in place for line in pair)]
    found = [(Entry((None, None, None)), Entry()) for _ in named]
    if tested.blocked is None or not able:
        return found
    contrasts = tested.blocked.contrasts([(place[id(named[n][0])], place[id(named[n][1])]) for n in able])
    for number, one in zip(able, contrasts, strict=True):
        found[number] = Entry((one.mean, one.low, one.high)), Entry((one.p,))
    return found


CONTROLS = register(
    TableKind(
        name="controls",
        title="Against controls",
        of_block=_table,
        place="block",
        order=2,
        nothing="no row of this suite names controls",
    )
)
