"""Groups a suite's records: blocks of rows of one setting, and rows of seeds of one method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import mean, median

from results.records.identity import canonical_json
from results.records.schema import Cell, Manifest, ManifestRow, MethodPart, Primary, Record, Stretch

MISSING = "not run"
UNREADABLE = "unreadable"
_ORDER = ("ok", "diverged", "oom", "timeout", "error", "interrupted", UNREADABLE, MISSING, "skipped")


@dataclass
class Line:
    """One row of a table: one method with its settings, over seeds.

    Attributes:
        label: what the suite calls it.
        parts: the method's, with their settings.
        stretch: how much longer it trains than the protocol says.
        planned: seeds that the suite wants.
        records: seed to record, for the seeds that are ok.
        statuses: how many seeds ended how.
        reasons: why seeds are not ok, each once.
        capabilities: what the method needs beyond the rule.
        chosen: how its settings were chosen: ``default``, ``published``, ``stated`` by the suite, or how tuned.
        controls: labels of the block's rows that it is held against.
    """

    label: str
    parts: tuple[MethodPart, ...]
    stretch: Stretch | None = None
    planned: list[int] = field(default_factory=list)
    records: dict[int, Record] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    capabilities: set[str] = field(default_factory=set)
    chosen: str | None = None
    controls: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """Names of its parts joined by ``+``, and the stretch where it trains longer: another method than without."""
        names = "+".join(part.name for part in self.parts)
        return f"{names} (stretch={self.stretch})" if self.stretch else names

    @property
    def complete(self) -> bool:
        """Whether every planned seed is ok."""
        return len(self.records) == len(self.planned)

    def values(self, network: str, metric: str | None = None) -> dict[int, float]:
        """Seed to score, for the seeds that have it; the primary metric's unless another is named."""
        found = {seed: record.score(network, metric) for seed, record in sorted(self.records.items())}
        return {seed: value for seed, value in found.items() if value is not None}

    def means_of_equals(self) -> dict[int, float]:
        """Seed to the primary score's mean over all networks or branches that trained as equals, what is deployed among
        them; empty where there are none."""
        found = {}
        for seed, record in sorted(self.records.items()):
            each = [record.score(role) for role in record.scores if role not in ("teacher", "ensemble")]
            there = [score for score in each if score is not None]
            if len(there) > 1:
                found[seed] = mean(there)
        return found

    @property
    def state(self) -> str:
        """How the seeds ended: ``ok``, or e.g. ``2 ok, 1 diverged``."""
        if self.complete:
            return "ok"
        parts = [f"{self.statuses[status]} {status}" for status in _ORDER if self.statuses[status]]
        return ", ".join(parts)

    @property
    def why(self) -> str:
        """The reasons for what is not ok, in one line."""
        return "; ".join(
            f"{status}{f' ({count} seeds)' if count > 1 else ''}: {reason}"
            for (status, reason), count in sorted(self.reasons.items())
        )


@dataclass
class Block:
    """Rows of one benchmark, condition, protocol, pair, regime and teacher; complete once it is read.

    Attributes:
        title: the suite's heading for it.
        cell: any of its cells; what its rows share is read from it.
        lines: its rows in the suite's order.
        baseline_method: name of the method that others are compared with.
    """

    title: str
    cell: Cell
    lines: list[Line]
    baseline_method: str

    @property
    def pair(self) -> str:
        """``teacher → student``, or the one network's name."""
        return f"{self.cell.teacher} → {self.cell.student}" if self.cell.teacher else self.cell.student

    @cached_property
    def primary(self) -> Primary | None:
        """What ranks; None while nothing is ok."""
        return next((r.primary for line in self.lines for _, r in sorted(line.records.items()) if r.primary), None)

    @cached_property
    def higher_is_better(self) -> bool:
        """The direction of what ranks."""
        return self.primary is None or self.primary.higher_is_better

    @cached_property
    def seeds(self) -> frozenset[int]:
        """Those that most rows are planned on; of sets as frequent, the baseline's, then the larger, then the lower."""
        counts = Counter(frozenset(line.planned) for line in self.lines)
        own = {frozenset(line.planned) for line in self.lines if line.method == self.baseline_method}
        return max(counts, key=lambda seeds: (counts[seeds], seeds in own, len(seeds), [-s for s in sorted(seeds)]))

    def stands(self, line: Line) -> bool:
        """Whether a row takes part in ranking and tests: it is complete, on the seeds of the table."""
        return line.complete and line.records.keys() == self.seeds

    def why_not(self, line: Line) -> str:
        """Why a row does not take part, in one line; that nothing was run needs no reason."""
        if line.complete and not self.stands(line):
            return f"on seeds {_listed(line.planned)}, where the table stands on {_listed(self.seeds)}"
        return line.why

    @cached_property
    def baseline(self) -> Line | None:
        """The row of the baseline method that takes part, else the one that has most seeds; the first of them."""
        rows = [line for line in self.lines if line.method == self.baseline_method and line.records]
        return max(rows, key=lambda line: (self.stands(line), len(line.records)), default=None)

    @cached_property
    def comparable(self) -> bool:
        """Whether its ok records were trained and scored on the same; those that do not say on what are not asked."""
        return len({record.data_digest for record in self.records()} - {None}) <= 1

    @property
    def condition(self) -> dict[str, str]:
        """``condition`` in words; empty where the benchmark is as it is."""
        return {"condition": str(self.cell.condition)} if self.cell.condition else {}

    @property
    def subtitle(self) -> str:
        """What the rows share, in one line."""
        cell = self.cell
        protocol = f"{cell.protocol} ({cell.protocol_digest[:8]})"
        return " · ".join((cell.benchmark, *self.condition.values(), protocol, cell.regime, self.pair))

    @property
    def context(self) -> dict[str, str]:
        """What the rows share, by plain names."""
        cell = self.cell
        return {
            "block": self.title,
            "task": cell.task,
            "benchmark": cell.benchmark,
            **self.condition,
            "protocol": cell.protocol,
            "protocol_digest": cell.protocol_digest,
            "regime": cell.regime,
            "teacher": cell.teacher or "",
            "student": cell.student,
        }

    def records(self) -> list[Record]:
        """Every ok record, by row and seed."""
        return [record for line in self.lines for _, record in sorted(line.records.items())]

    @cached_property
    def solo_teacher(self) -> dict[int, float]:
        """Seed to the primary score of a teacher that learned from no one: online, in the baseline row."""
        if self.cell.regime != "online" or self.baseline is None:
            return {}
        return self.baseline.values("teacher")

    @cached_property
    def frozen_teacher(self) -> list[float]:
        """Offline: the distinct scores of the frozen teacher that the records name; one, unless it was retrained.

        A checkpoint is scored anew with every student, which devices may round apart: its median stands for it.
        """
        if self.cell.regime != "offline":
            return []
        named = (r.teacher.score if r.teacher else r.score("teacher") for r in self.records())
        scores = sorted(score for score in named if score is not None)
        if self.cell.checkpoint and scores:
            return [median(scores)]
        return sorted(set(scores))

    @cached_property
    def teacher_digests(self) -> list[str]:
        """Offline: the distinct SHA-256 of the frozen teacher's weights that the records name."""
        return sorted({record.teacher.digest for record in self.records() if record.teacher})

    @property
    def own_parts(self) -> list[str]:
        """What the benchmark and the networks are that the suite defines itself, a sentence for each."""
        told, own = [], self.cell.own_benchmark
        if own is not None:
            counts = ", ".join(f"{count} {split}" for split, count in own.images.items())
            told.append(
                f"Benchmark '{self.cell.benchmark}' is this suite's own: {own.classes} classes, "
                f"{own.image}x{own.image} pixels, {counts} images (files SHA-256 {own.files[:12]})."
            )
        files = sorted({r.teacher.checkpoint for r in self.records() if r.teacher and r.teacher.checkpoint})
        for name, network in sorted(self.cell.networks.items()):
            parts = [network.base + (f" (SHA-256 {network.config[:12]})" if network.config else "")]
            if network.overrides:
                parts.append(f"with {canonical_json(network.overrides)}")
            if network.checkpoint:
                file = f"checkpoint {', '.join(files)}" if files else "a checkpoint"
                parts.append(f"with the weights of {file} (SHA-256 {network.checkpoint[:12]}), not trained here")
            told.append(f"Network '{name}' is this suite's own: {', '.join(parts)}.")
        return told


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))


def collect(
    manifest: Manifest, records: Mapping[str, Record], problems: Mapping[str, str] | None = None
) -> list[Block]:
    """Arrange a suite's records as its manifest says.

    Args:
        manifest: the suite's rows.
        records: by cell id, in any order; ids that the manifest does not name are left out.
        problems: cell id to what is wrong with its record file.
    """
    blocks: dict[tuple[object, ...], Block] = {}
    lines: dict[tuple[object, ...], Line] = {}
    for row in manifest.rows:
        cell = row.cell
        place = (row.block, cell.model_dump_json(exclude={"method", "stretch", "seed"}))
        block = blocks.setdefault(place, Block(row.block, cell, [], manifest.baseline))
        identity = (*place, row.label, cell.model_dump_json(include={"method", "stretch"}))
        if identity not in lines:
            lines[identity] = Line(
                row.label, cell.method, cell.stretch, chosen=row.chosen, controls=tuple(row.controls)
            )
            block.lines.append(lines[identity])
        _add(lines[identity], row, records.get(row.id), (problems or {}).get(row.id))
    return list(blocks.values())


def _add(line: Line, row: ManifestRow, record: Record | None, problem: str | None) -> None:
    if row.cell.seed in line.planned:
        return
    line.planned.append(row.cell.seed)
    if record is None:
        line.statuses[UNREADABLE if problem else MISSING] += 1
        if problem:
            line.reasons[(UNREADABLE, problem)] += 1
        return
    line.statuses[record.status] += 1
    line.capabilities |= set(record.capabilities)
    if record.status == "ok":
        line.records[row.cell.seed] = record
    else:
        line.reasons[(record.status, record.reason or "no reason was given")] += 1
