"""Plans and states of suites as tables for a terminal."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from results.records.store import Store
from results.table import counted
from suites.plan.groups import Groups
from suites.plan.plan import Plan, PlanRow
from suites.work.folder import WorkFolder

_MOST_JOBS = 20
"""Jobs that are listed one by one."""
_STYLES = {
    "done": "green",
    "failed": "red",
    "lost": "red",
    "running": "cyan",
    "queued": "blue",
    "to do": "yellow",
    "not needed": "dim",
    "left out": "dim",
}


def show_plan(console: Console, plan: Plan, title: str) -> None:
    """Print one table per block, seeds of one row together, and the total."""
    console.print(Text(title, style="bold"))
    blocks: dict[str, list[PlanRow]] = defaultdict(list)
    for row in (*plan.artefacts, *plan.rows):
        blocks[row.planned.block].append(row)
    with_groups = any(row.together > 1 for row in plan.open)
    for block, rows in blocks.items():
        console.print(_block(block, rows, plan.groups if with_groups else None))
    _show_checkpoints(console, plan)
    console.print(Text.assemble(*_counts(plan), "\n", _total(plan)))
    show_other_code(console, plan)


def show_status(console: Console, plan: Plan, title: str, store: Store) -> None:
    """Print how many cells are in which state, what runs, and what failed."""
    console.print(Text(title, style="bold"))
    _show_checkpoints(console, plan)
    console.print(Text.assemble(*_counts(plan)))
    running = [row for row in (*plan.artefacts, *plan.rows) if row.state == "running"]
    failed = [row for row in (*plan.artefacts, *plan.rows) if row.state in ("failed", "lost")]
    if running:
        columns = ("running", "pair", "seed", "epoch", "score", "where")
        table = Table(*columns, box=None, header_style="dim", pad_edge=False)
        for row in running:
            found = progress_of(row.planned.id, store)
            epoch = f"{found['epoch']}/{found['epochs']}" if "epochs" in found else "-"
            score = found.get("score")
            shown = f"{score:.2f}" if isinstance(score, int | float) else "-"
            cell, where = row.planned.cell, Text(row.reason, style="dim")
            table.add_row(Text(row.planned.label), cell.pair, str(cell.seed), epoch, shown, where)
        console.print(table)
    queued = Counter(row.reason for row in plan.cells if row.state == "queued")
    for told, count in list(queued.items())[:_MOST_JOBS]:
        console.print(Text.assemble(("queued ", "blue"), f"{count} in {told}"), soft_wrap=True)
    if len(queued) > _MOST_JOBS:
        console.print(
            Text(f"... and {sum(list(queued.values())[_MOST_JOBS:])} in {len(queued) - _MOST_JOBS} other jobs")
        )
    for row in failed:
        cell = row.planned.cell
        text = f"{row.planned.id}  {cell.regime} {cell.pair}  {row.planned.label}  seed {cell.seed}  {row.reason}"
        console.print(Text.assemble((f"{row.state:6s} ", "red"), text), soft_wrap=True)
    if plan.open:
        console.print(Text(_total(plan)))
    show_other_code(console, plan)


def show_other_code(console: Console, plan: Plan) -> None:
    """One line where finished cells were trained by code that is another now: nothing trains them anew by itself."""
    rows = plan.of_other_code
    if rows:
        parts = ", ".join(sorted({part for row in rows for part in row.other_code}))
        told = f"trained by other code: {counted(len(rows), 'cell')} ({parts}); adm run --fresh trains anew"
        console.print(Text(told, style="yellow"), soft_wrap=True)


def progress_of(cell_id: str, store: Store) -> dict[str, Any]:
    """The latest progress of a cell's worker."""
    return WorkFolder.of(store.root, cell_id).progress()


def _show_checkpoints(console: Console, plan: Plan) -> None:
    """One line for each teacher that the suite brings along."""
    for checkpoint in plan.checkpoints:
        console.print(Text(str(checkpoint)), soft_wrap=True)


def _block(title: str, rows: list[PlanRow], formed: Groups | None) -> Table:
    """One table; with groups it tells how many cells are trained together."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=False)
    for name in ("row", "pair", "seeds", "state", "time", *(["together"] if formed else []), "why"):
        table.add_column(name, justify="right" if name == "time" else "left", overflow="fold")
    alike: dict[tuple[str, ...], list[PlanRow]] = defaultdict(list)
    for row in rows:
        alike[(row.planned.label, row.planned.cell.pair, row.state, row.reason)].append(row)
    for (label, pair, state, reason), members in alike.items():
        seeds = " ".join(str(row.planned.cell.seed) for row in members)
        known = [row.seconds for row in members if row.seconds is not None]
        unknown = "unknown" if members[0].open else ""
        time = duration(sum(known)) if known else unknown
        together = [Text(_together(members, formed))] if formed else []
        table.add_row(Text(label), Text(pair), seeds, Text(state, style=_STYLES[state]), time, *together, Text(reason))
    return table


def _together(members: list[PlanRow], groups: Groups) -> str:
    """How many cells are trained together, the cells of a row included; why they are alone, where that is a choice."""
    sizes = sorted({row.together for row in members if row.open})
    if not sizes:
        return ""
    reason = groups.reasons.get(members[0].planned.id)
    return f"alone: {reason}" if reason else " or ".join(map(str, sizes))


def _counts(plan: Plan) -> list[str | tuple[str, str]]:
    counted: Counter[str] = Counter(row.state for row in (*plan.artefacts, *plan.rows))
    parts: list[str | tuple[str, str]] = []
    for state, style in _STYLES.items():
        if counted[state]:
            parts += [(f"{counted[state]} {state}", style), "  "]
    return parts


def _total(plan: Plan) -> str:
    if not plan.open:
        return "nothing to do"
    task = f"{counted(len(plan.open), 'cell')} to train with {counted(plan.workers, 'worker')}"
    if plan.unknown == len(plan.open):
        return f"{task}; nothing like them has been timed here yet"
    missing = f", {counted(plan.unknown, 'cell')} without an estimate left out" if plan.unknown else ""
    return f"{task}: about {duration(plan.seconds)}{missing}"


def duration(seconds: float) -> str:
    """A length of time in two units at most: ``4.2 s``, ``42 s``, ``3 min 10 s``, ``2 h 5 min``, ``3 d 4 h``."""
    whole = round(seconds)
    if 0 < seconds < 9.95:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    for big, name, small, rest in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= big:
            more = whole % big // small
            return f"{whole // big} {name}" + (f" {more} {rest}" if more else "")
    return f"{whole} s"
