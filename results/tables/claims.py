"""The claims tables: our means beside published figures. The two are never ranked together."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from itertools import product

from results.analysis import statistics
from results.analysis.blocks import Block, Line
from results.claims.claims import Claim, in_order, load_claims
from results.metrics import metric_column
from results.table import Column, Entry, Row, Table
from results.tables.registry import TableKind, register

_Key = tuple[str, str, int | None]
"""Method, scored network, evaluations of the network per image."""
_NFE = Column("nfe", "NFE", "count", about="evaluations of the network per generated image, where a source states them")


def beside(block: Block, published: Sequence[Claim]) -> list[Table]:
    """Published figures of a block's pair, or of one of its networks alone, beside ours; none where there are none."""
    matching = _matching(block, published)
    return [_beside(block, matching)] if matching else []


def elsewhere(blocks: Sequence[Block], published: Sequence[Claim]) -> list[Table]:
    """Per regime and benchmark of a suite, the figures for pairs and networks that it does not have.

    Where nothing at all was published for the suite, a table without rows says so.
    """
    seen = {claim for block in blocks for _, claim in _matching(block, published)}
    plain = [block for block in blocks if block.cell.condition is None]
    benchmarks = dict.fromkeys((block.cell.task, _name(block.cell.benchmark)) for block in plain)
    regimes = {"alone", *(block.cell.regime for block in blocks)}
    tables = []
    for regime, benchmark in product(("online", "offline", "peers", "alone"), benchmarks):
        rest = [c for c in published if c not in seen and (c.task, c.benchmark) == benchmark and c.regime == regime]
        if rest and regime in regimes:
            tables.append(_not_run(rest, regime))
    names = {" under ".join((_name(block.cell.benchmark), *block.condition.values())) for block in blocks}
    return tables if tables or seen else [_nothing(names)]


def _matching(block: Block, published: Sequence[Claim]) -> list[tuple[_Key, Claim]]:
    return [((claim.method, role, claim.nfe), claim) for claim in published for role in _roles(claim, block)]


def _roles(claim: Claim, block: Block) -> list[str]:
    """The networks of a block whose figure a claim is: one at most, or both where they are equal and learned alone."""
    cell = block.cell
    # a suite's own words need not mean what a source means by them, and figures are of benchmarks as they are
    if cell.networks or cell.own_benchmark or cell.condition:
        return []
    metric = block.primary.metric if block.primary else claim.metric
    if (cell.task, _name(cell.benchmark), metric) != (claim.task, claim.benchmark, claim.metric):
        return []
    if claim.regime == "alone":
        return [role for role, name in (("student", cell.student), ("teacher", cell.teacher)) if name == claim.student]
    ours = (cell.regime, cell.teacher, cell.student)
    return [claim.scored] if ours == (claim.regime, claim.teacher, claim.student) else []


def _name(benchmark: str) -> str:
    """A benchmark less its version: sources state none."""
    return benchmark.split("@")[0]


def _beside(block: Block, matching: Sequence[tuple[_Key, Claim]]) -> Table:
    published = list(dict.fromkeys(claim for _, claim in matching))
    sources = list(dict.fromkeys(claim.source for claim in published))
    figures: dict[tuple[_Key, str], Claim] = {(key, claim.source): claim for key, claim in matching}
    ours = metric_column(published[0].metric, "ours")
    counted = any(claim.nfe for claim in published)
    columns = (
        Column("label", "method"),
        Column("scored", "scored", about="the network whose score it is"),
        *([_NFE] if counted else []),
        Column(
            "ours", f"ours: {ours.title}", "spread", ours.digits, "measured here, over the seeds that are ok", ours.best
        ),
        Column("n", "seeds", "count", about="seeds behind our mean"),
        *(_source_column(number, source, ours) for number, source in enumerate(sources, start=1)),
    )
    rows = []
    for label, key, values in _lines(block, dict.fromkeys(key for key, _ in matching)):
        summary = statistics.summarize(values)
        entries = [Entry((label,)), Entry((key[1],)), *([Entry((key[2],))] if counted else [])]
        entries.append(Entry((summary.mean, summary.std) if summary else (None, None)))
        entries.append(Entry((summary.n if summary else None,)))
        entries += [_figure(figures.get((key, source))) for source in sources]
        rows.append(Row(tuple(entries), "baseline" if key == (block.baseline_method, "student", None) else "ranked"))
    notes = ("Published figures stand as their sources print them; protocols differ, so they are not ranked.",)
    return Table("claims", block.title, columns, tuple(rows), block.subtitle, block.context, notes + _legend(published))


def _lines(block: Block, published: Iterable[_Key]) -> list[tuple[str, _Key, list[float]]]:
    """Label, key and our values for every row of a block's table, students first.

    Ours stand in suite order, each method's followed by what was published of it at stated evaluations, since a record
    does not state them; then come the methods that only others have.
    """
    known: dict[tuple[str, str], list[int | None]] = {}
    for method, scored, nfe in published:
        known.setdefault((method, scored), []).append(nfe)
    found: list[tuple[str, _Key, list[float]]] = []
    methods = {method for method, _ in known}
    for scored in ("student", "teacher"):
        ours = [(_published(line, methods), line) for line in block.lines]
        ours = [(method, line) for method, line in ours if (method, scored) in known]
        last = dict(ours)
        for method, line in ours:
            found.append((line.label, (method, scored, None), _ours(block, line, scored)))
            if last[method] is line:
                counts = sorted(nfe for nfe in known[method, scored] if nfe)
                found += [(method, (method, scored, nfe), []) for nfe in counts]
        for (method, role), given in known.items():
            if role == scored and method not in last:
                counts_or_none = sorted(given, key=lambda nfe: nfe or 0)
                found += [(method, (method, scored, nfe), []) for nfe in counts_or_none]
    return found


def _published(line: Line, published: Container[str]) -> str:
    """The published method that a row of ours is: what its label names where it names one (``kd+ls``), or its own."""
    named = in_order(line.label)
    return named if named in published else line.method


def _ours(block: Block, line: Line, scored: str) -> list[float]:
    if scored == "teacher" and block.cell.regime == "offline":
        return block.frozen_teacher
    return list(line.values(scored).values())


def _not_run(published: Sequence[Claim], regime: str) -> Table:
    sources = list(dict.fromkeys(claim.source for claim in published))
    metric = metric_column(published[0].metric)
    counted = any(claim.nfe for claim in published)
    columns = (
        Column("pair", "network" if regime == "alone" else "pair"),
        Column("label", "method"),
        Column("scored", "scored", about="the network whose score it is"),
        *([_NFE] if counted else []),
        *(_source_column(number, source, metric) for number, source in enumerate(sources, start=1)),
    )
    figures = {(_pair(claim), claim.method, claim.scored, claim.nfe, claim.source): claim for claim in published}
    keys = dict.fromkeys((_pair(claim), claim.method, claim.scored, claim.nfe) for claim in published)
    pairs = list(dict.fromkeys(pair for pair, *_ in keys))
    rows = [
        Row(
            (
                *(Entry((part,)) for part in (key if counted else key[:3])),
                *(_figure(figures.get((*key, source))) for source in sources),
            )
        )
        for key in sorted(keys, key=lambda key: (pairs.index(key[0]), key[2] == "student"))
    ]
    title = f"Published {regime} figures for pairs that this suite does not have"
    if regime == "alone":
        title = "Published figures of networks trained alone that this suite does not have"
    subtitle = f"{published[0].benchmark} · {metric.title}"
    context = {"benchmark": published[0].benchmark, "regime": regime}
    return Table("claims", title, columns, tuple(rows), subtitle, context, _legend(published))


def _pair(claim: Claim) -> str:
    return f"{claim.teacher} → {claim.student}" if claim.teacher else claim.student


def _source_column(number: int, source: str, metric: Column) -> Column:
    return Column(f"published_{number}", f"{source} [{number}]", "spread", metric.digits, "published", metric.best)


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


CLAIMS = register(
    TableKind(
        name="claims",
        title="Published figures",
        of_block=lambda block: beside(block, load_claims()),
        of_suite=lambda blocks: elsewhere(blocks, load_claims()),
        place="end",
        order=4,
        anchor="published",
    )
)
