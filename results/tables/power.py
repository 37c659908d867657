"""The power tables: what a benchmark can tell, what an established method shows on it, and what a seed costs.

One row per block, about its reference method; what the figures come to is said in words below it.
"""

from __future__ import annotations

from results.analysis.blocks import Block
from results.analysis.merit import MOST_SEEDS, Merit, measure
from results.metrics import metric_column, unit_of
from results.table import Column, Entry, Row, Table, grouped, quoted
from results.tables.registry import TableKind, register

AT_REST = 1 / 3
"""Training comes to rest where its last tenth gains at most this share of the noise."""


def verdict(block: Block, merit: Merit) -> list[str]:
    """What the figures of merit of a block come to, in sentences."""
    said = [_resolution(block, merit), _way(block, merit), _effect(block, merit), _rest(merit)]
    return [sentence for sentence in said if sentence]


def _table(block: Block) -> list[Table]:
    if block.baseline is None or block.primary is None:
        return []
    merit, digits = measure(block), metric_column(block.primary.metric).digits
    rows = (Row(tuple(Entry(values) for _, values in _figures(merit, digits))),)
    columns = tuple(column for column, _ in _figures(merit, digits))
    table = Table(
        "power", block.title, columns, rows, block.subtitle, block.context, tuple(verdict(block, merit))
    )  # fmt: skip
    return [table.without_empty(frozenset({"label", "seeds"}))]


def _figures(merit: Merit, digits: int) -> list[tuple[Column, tuple[str | float | None, ...]]]:
    """Every column with its values."""
    second = "GPU s" if merit.on_gpu else "core s"
    return [
        (Column("label", "reference", about="the established method of the task whose effect is looked at"),
         (merit.reference,)),
        (Column("seeds", "seeds", "count"), (merit.seeds,)),
        (Column("gap", "gap", "number", digits, "how much better the teacher is than the lone student"), (merit.gap,)),
        (Column("effect", "effect", "change", digits,
                "how much better the reference is than the baseline, with the interval of the table's test"),
         (merit.effect, merit.effect_low, merit.effect_high)),
        (Column("noise", "noise", "estimate", digits,
                "standard deviation of a score, means of rows and seeds taken out, pooled over rows; 95 % interval"),
         (merit.noise, merit.noise_low, merit.noise_high)),
        (Column("smallest", "smallest told", "number", digits,
                "the true difference to the baseline that is told with 80 % probability, two-sided at 5 % as in the "
                "table of scores"), (merit.smallest,)),
        (Column("seeds_needed", "seeds for half", "count", 0,
                "how many seeds tell half of the reference's effect with 80 % probability"), (merit.seeds_needed,)),
        (Column("late_gain", "last tenth", "number", 2,
                "what students gain on validation data in the last tenth of training, in units of the noise"),
         (merit.late_gain,)),
        (Column("cost_s", f"a seed, {second}", "count", 0,
                "what one further seed of every row takes, frozen teachers left out"), (merit.cost_s,)),
    ]  # fmt: skip


def _resolution(block: Block, merit: Merit) -> str:
    if merit.noise is None or merit.smallest is None:
        return "Nothing can be told: a test needs the baseline and another row, complete on the same two seeds or more."
    none = unit_of(block.primary.metric if block.primary else "") == "%" and merit.smallest >= 100
    what = "any difference" if none else f"differences below {_amount(block, merit.smallest)}"
    told = f"With {merit.seeds} seeds this table cannot tell {what}"
    if not merit.noisy:
        return f"{told}."
    return f"{told}; the noise of {quoted(merit.noisy)} exceeds the others' grossly and is not pooled with theirs."


def _way(block: Block, merit: Merit) -> str:
    if merit.gap is None or merit.smallest is None:
        return ""
    if merit.gap <= 0:
        return "The teacher is not better than the lone student: there is nothing to distil."
    if merit.gap < merit.smallest:
        return f"The whole way from the lone student to the teacher ({_amount(block, merit.gap)}) is less than that."
    return ""


def _effect(block: Block, merit: Merit) -> str:
    if merit.noise is None:
        return ""
    if merit.reference is None or merit.effect is None:
        return "No established method of this task and regime is ranked here: there is no effect to look for."
    if merit.effect <= 0:
        return f"'{merit.reference}' is not better than the baseline here: there is no effect to look for."
    half = f"Half the effect of '{merit.reference}' ({_amount(block, merit.effect / 2)})"
    half += ", by its own noise," if merit.reference in merit.noisy else ""
    if merit.seeds_needed is None:
        said = f"{half} needs more than {grouped(MOST_SEEDS)} seeds."
    elif merit.seeds_needed > merit.seeds:
        said = f"{half} needs {grouped(merit.seeds_needed)} seeds."
    else:
        said = f"{half} can be told."
    unsure = merit.effect_low is not None and merit.effect_low <= 0
    return said + (" That effect is not told from none, so this is a guess." if unsure else "")


def _rest(merit: Merit) -> str:
    if merit.noise is None:
        return ""
    if merit.late_gain is None:
        return "Whether training comes to rest is unknown: records hold no validation scores around its last tenth."
    told = f"the last tenth of training gains {merit.late_gain:.2f} of the noise"
    if merit.late_gain <= AT_REST:
        return f"Training comes to rest: {told}.".replace("-", "−")
    return f"Students still learn when training ends: {told}."


def _amount(block: Block, value: float) -> str:
    """A difference with its unit."""
    metric = block.primary.metric if block.primary else ""
    column = metric_column(metric)
    unit = "points" if unit_of(metric) == "%" else column.title
    return f"{value:.{column.digits}f} {unit}"


POWER = register(
    TableKind(
        name="power",
        title="What this table can tell",
        of_block=_table,
        place="block",
        order=6,
        nothing="no table of this suite has a baseline with scores",
    )
)
