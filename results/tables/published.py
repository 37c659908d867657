"""The claims tables: our means beside published figures. The two are never ranked together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

from results import statistics
from results.claims import Claim
from results.tables.blocks import Block, Line
from results.tables.metrics import metric_column
from results.tables.model import Column, Entry, Row, Table

_Key = tuple[str, str]  # method, scored network


def claims(blocks: Sequence[Block], published: Sequence[Claim]) -> list[Table]:
    """Our figures beside published ones.

    Args:
        blocks: the suite's.
        published: figures with their sources.

    Returns:
        One table for each block of which something was published; then, per regime and benchmark, the figures for
        pairs that this suite does not have.
    """
    tables = []
    seen: set[Claim] = set()
    for block in blocks:
        matching = [claim for claim in published if _fits(claim, block)]
        if matching:
            tables.append(_beside(block, matching))
            seen |= set(matching)
    benchmarks = dict.fromkeys(_name(block.cell.benchmark) for block in blocks)
    regimes = {block.cell.regime for block in blocks}
    for regime, benchmark in product(("online", "offline"), benchmarks):
        rest = [c for c in published if c not in seen and c.benchmark == benchmark and c.regime == regime]
        if rest and regime in regimes:
            tables.append(_not_run(rest, regime))
    return tables or [_nothing(set(benchmarks))]


def _fits(claim: Claim, block: Block) -> bool:
    cell = block.cell
    if cell.networks:  # a suite's own word for a network need not mean what a source means by it
        return False
    ours = (_name(cell.benchmark), cell.regime, cell.teacher, cell.student)
    metric = block.primary.metric if block.primary else claim.metric
    return ours == (claim.benchmark, claim.regime, claim.teacher, claim.student) and metric == claim.metric


def _name(benchmark: str) -> str:
    """A benchmark less its version: sources state none."""
    return benchmark.split("@")[0]


def _beside(block: Block, published: Sequence[Claim]) -> Table:
    sources = list(dict.fromkeys(claim.source for claim in published))
    figures: dict[tuple[_Key, str], Claim] = {((c.method, c.scored), c.source): c for c in published}
    metric = published[0].metric
    ours = metric_column(metric, "ours")
    columns = (
        Column("label", "method"),
        Column("scored", "scored", about="the network whose score it is"),
        Column("ours", f"ours: {ours.title}", "spread", ours.digits, "measured here, over the seeds that are ok"),
        Column("n", "seeds", "count", about="seeds behind our mean"),
        *(_source_column(number, source, ours.digits) for number, source in enumerate(sources, start=1)),
    )
    rows = []
    for label, key, values in _our_lines(block, published):
        summary = statistics.summarize(values)
        entries = [Entry((label,)), Entry((key[1],))]
        entries.append(Entry((summary.mean, summary.std) if summary else (None, None)))
        entries.append(Entry((summary.n if summary else None,)))
        entries += [_figure(figures.get((key, source))) for source in sources]
        rows.append(Row(tuple(entries), "baseline" if key == (block.baseline_method, "student") else "ranked"))
    notes = ("Published figures stand as their sources print them; protocols differ, so they are not ranked.",)
    return Table("claims", block.title, columns, tuple(rows), block.subtitle, block.context, notes + _legend(published))


def _our_lines(block: Block, published: Sequence[Claim]) -> list[tuple[str, _Key, list[float]]]:
    """Label, key and our values for every row of a block's table: ours in suite order, then what only others have."""
    known = dict.fromkeys((claim.method, claim.scored) for claim in published)
    found: list[tuple[str, _Key, list[float]]] = []
    done: set[_Key] = set()
    for scored in ("student", "teacher"):
        for line in block.lines:
            key = (line.method, scored)
            if key in known:
                found.append((line.label, key, _ours(block, line, scored)))
                done.add(key)
    found += [(method, (method, scored), []) for method, scored in known if (method, scored) not in done]
    return sorted(found, key=lambda item: item[1][1] == "teacher")


def _ours(block: Block, line: Line, scored: str) -> list[float]:
    if scored == "teacher" and block.cell.regime == "offline":
        return block.frozen_teacher
    return list(line.values(scored).values())


def _not_run(published: Sequence[Claim], regime: str) -> Table:
    sources = list(dict.fromkeys(claim.source for claim in published))
    metric = metric_column(published[0].metric)
    columns = (
        Column("pair", "pair"),
        Column("label", "method"),
        Column("scored", "scored", about="the network whose score it is"),
        *(_source_column(number, source, metric.digits) for number, source in enumerate(sources, start=1)),
    )
    figures = {(_pair(claim), claim.method, claim.scored, claim.source): claim for claim in published}
    keys = dict.fromkeys((_pair(claim), claim.method, claim.scored) for claim in published)
    pairs = list(dict.fromkeys(pair for pair, _, _ in keys))
    rows = [
        Row((*(Entry((part,)) for part in key), *(_figure(figures.get((*key, source))) for source in sources)))
        for key in sorted(keys, key=lambda key: (pairs.index(key[0]), key[2] == "student"))
    ]
    title = f"Published {regime} figures for pairs that this suite does not have"
    subtitle = f"{published[0].benchmark} · {metric.title}"
    context = {"benchmark": published[0].benchmark, "regime": regime}
    return Table("claims", title, columns, tuple(rows), subtitle, context, _legend(published))


def _pair(claim: Claim) -> str:
    return f"{claim.teacher} → {claim.student}"


def _source_column(number: int, source: str, digits: int) -> Column:
    return Column(f"published_{number}", f"{source} [{number}]", "spread", digits, "published")


def _figure(claim: Claim | None) -> Entry:
    return Entry((claim.value, claim.std) if claim else (None, None))


def _legend(published: Iterable[Claim]) -> tuple[str, ...]:
    """One line per source: what is known of its protocols."""
    protocols: dict[str, dict[str, None]] = {}
    for claim in published:
        runs = f" ({claim.n} run{'s' if claim.n > 1 else ''})" if claim.n else ""
        protocols.setdefault(claim.source, {})[claim.protocol + runs] = None
    return tuple(f"[{i}] {source}: {'; '.join(said)}." for i, (source, said) in enumerate(protocols.items(), start=1))


def _nothing(benchmarks: set[str]) -> Table:
    where = ", ".join(sorted(benchmarks)) or "an empty suite"
    note = f"No published figure is known for {where} in the regimes of this suite."
    return Table("claims", "Published figures", (Column("label", "method"),), (), notes=(note,))
