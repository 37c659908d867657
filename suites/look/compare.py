"""Two methods, two rows or two stores held against each other over the pairs and seeds that both have.

Each line is a table of two rows as the leaderboards test it: a paired t-test that takes no spread below the scores'
grain for certainty. Lines are other benchmarks, pairs or networks, so Holm adjusts over them.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from adm_core.errors import AdmError, unknown
from results.analysis.blocked import by_seed
from results.analysis.holm import holm
from results.analysis.mixture import differing
from results.analysis.statistics import paired_difference
from results.errors import RecordError
from results.records.schema import Cell, MethodPart, Record
from results.records.store import Store
from suites.look.lookup import finished_cell, may_be_cell
from suites.spec.trials import PREFIX

Group = dict[int, Record]
"""Seed to record, of cells that differ in nothing else."""


@dataclass(frozen=True)
class Comparison:
    """One line of the comparison.

    Attributes:
        benchmark: name and version, and its condition where it has one.
        pair: ``teacher > student``, or the lone network.
        regime: of both sides, or ``a / b`` when they differ.
        method: what was compared, where that is not told by the two sides' names.
        network: whose score: ``student`` or ``teacher``.
        metric: its name with its unit.
        n: seeds that both have.
        first: mean of the first over these seeds.
        second: mean of the second.
        difference: mean of first - second.
        p: two-sided p of the two rows over these seeds, Holm-adjusted over all lines; None for one seed.
    """

    benchmark: str
    pair: str
    regime: str
    method: str
    network: str
    metric: str
    n: int
    first: float
    second: float
    difference: float
    p: float | None


def compare(first: str, second: str, store: Store, tell: Callable[[str], None] = lambda _: None) -> list[Comparison]:
    """Paired differences between two things. Records that cannot be read are left out.

    Args:
        first: a method's name (trials of ``adm tune`` are not meant), the beginning of a cell's id (its row is meant:
            all seeds), or a store's folder.
        second: another of the same kind.
        store: where methods and cells are looked up.
        tell: called with what is wrong with each record that is left out.

    Raises:
        AdmError: unknown, ambiguous, of two kinds, nothing in common, or trained or scored on different data.
    """
    kinds = _kind(first), _kind(second)
    if kinds[0] != kinds[1]:
        raise AdmError(f"'{first}' is a {kinds[0]} and '{second}' a {kinds[1]}; compare two of one kind")
    if kinds[0] == "store":
        pairs = _shared(*(_by_row(_finished(Store(side), tell)) for side in (first, second)))
    elif kinds[0] == "cell":
        rows = _by_row(_finished(store, tell))
        pairs = [(rows[_row_key(finished_cell(store, first).cell)], rows[_row_key(finished_cell(store, second).cell)])]
    else:
        trials = _trials(store)
        records = [record for record in _finished(store, tell) if record.id not in trials]
        pairs = _shared(_by_context(first, records), _by_context(second, records))
    lines = [line for a, b in pairs for line in _lines(a, b)]
    if not lines:
        raise AdmError(f"'{first}' and '{second}' share no finished benchmark, pair and seed")
    tested = iter(holm(np.array([line.p for line in lines if line.p is not None])).tolist())
    return [line if line.p is None else replace(line, p=next(tested)) for line in lines]


def _kind(name: str) -> str:
    if (Path(name) / "records").is_dir():
        return "store"
    return "cell" if may_be_cell(name) and any(c.isdigit() for c in name) else "method"


def _finished(store: Store, tell: Callable[[str], None]) -> list[Record]:
    found, problems = store.records()
    for problem in problems:
        tell(f"unreadable: {problem}")
    return [record for record in found.values() if record.status == "ok"]


def _trials(store: Store) -> set[str]:
    """Cells that were trained to choose settings by, and stand in no other suite."""
    cells: dict[bool, set[str]] = {True: set(), False: set()}
    for suite in store.manifests():
        with contextlib.suppress(RecordError):  # a damaged manifest tells of no trials
            cells[suite.startswith(PREFIX)].update(row.id for row in store.read_manifest(suite).rows)
    return cells[True] - cells[False]


def _row_key(cell: Cell) -> str:
    """What cells share that differ in their seed alone."""
    return cell.model_copy(update={"seed": 0}).id


def _by_row(records: Iterable[Record]) -> dict[str, Group]:
    groups: dict[str, Group] = defaultdict(dict)
    for record in records:
        groups[_row_key(record.cell)][record.cell.seed] = record
    return groups


def _by_context(method: str, records: Iterable[Record]) -> dict[str, Group]:
    """A method's rows by everything else that a cell says; each must be one row."""
    records = list(records)
    if not records:
        raise AdmError(f"method '{method}': no cell in this store is finished; run a suite first, or give --store")
    wanted = [record for record in records if record.cell.method_name == method and record.cell.regime != "alone"]
    if not wanted:
        raise unknown("method in this store", method, {record.cell.method_name for record in records})
    groups: dict[str, Group] = defaultdict(dict)
    for record in wanted:
        context = _row_key(record.cell.model_copy(update={"method": (MethodPart(name="none", version=1),)}))
        other = groups[context].get(record.cell.seed)
        if other is not None:
            raise AdmError(
                f"method '{method}' was run with several settings on {record.cell.pair}; compare two of its cells "
                f"instead, such as {other.id} and {record.id}"
            )
        groups[context][record.cell.seed] = record
    return groups


def _shared(first: dict[str, Group], second: dict[str, Group]) -> list[tuple[Group, Group]]:
    return [(group, second[key]) for key, group in first.items() if key in second]


def _check_same_data(first: Group, second: Group) -> None:
    for seed in sorted(first.keys() & second.keys()):
        one, two = first[seed], second[seed]
        if not one.data_digest or not two.data_digest:
            continue
        parts = differing({"first": one.data_digest, "second": two.data_digest})
        if parts:
            told = ", ".join(f"{part} ({held['first']} / {held['second']})" for part, held in parts.items())
            raise AdmError(
                f"cells {one.id} / {two.id} (seed {seed}, {one.cell.pair}) were trained or scored on different data: "
                f"{told}; run one of them again with the other's data"
            )


def _lines(first: Group, second: Group) -> list[Comparison]:
    _check_same_data(first, second)
    lines = []
    for network in ("student", "teacher"):
        a, b = ({s: v for s, r in g.items() if (v := r.score(network)) is not None} for g in (first, second))
        found = paired_difference(a, b)
        one, two = next(iter(first.values())), next(iter(second.values()))
        frozen = network == "teacher" and "offline" in (one.cell.regime, two.cell.regime)
        if found is None or frozen or one.primary is None:
            continue
        seeds = a.keys() & b.keys()
        shared = [{seed: scores[seed] for seed in seeds} for scores in (a, b)]
        lines.append(
            Comparison(
                benchmark=" under ".join(map(str, filter(None, (one.cell.benchmark, one.cell.condition)))),
                pair=" / ".join(dict.fromkeys([one.cell.pair, two.cell.pair])),
                regime=" / ".join(dict.fromkeys([one.cell.regime, two.cell.regime])),
                method=" / ".join(dict.fromkeys([one.cell.method_name, two.cell.method_name])),
                network=network,
                metric=f"{one.primary.metric} {one.primary.unit}".strip(),
                n=found.n,
                first=math.fsum(a[seed] for seed in seeds) / len(seeds),
                second=math.fsum(b[seed] for seed in seeds) / len(seeds),
                difference=found.mean,
                p=by_seed(shared, baseline=1).p_values()[0] if found.n > 1 else None,
            )
        )
    return lines
