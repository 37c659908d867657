"""What a block is worth as an instrument: what can be told with it, and what that costs. From its records alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from results.analysis import statistics
from results.analysis.blocks import Block, Line
from results.analysis.ranking import Tested, teacher_by_seed
from results.records.schema import Record, Regime

REFERENCES: Mapping[tuple[str, Regime], tuple[str, ...]] = {
    ("classification", "offline"): ("dkd", "kd"),
    ("classification", "online"): ("dml", "kdcl"),
    ("classification", "peers"): ("dml", "one"),
    ("segmentation", "offline"): ("cwd", "kd"),
    ("segmentation", "online"): ("dml",),
    ("diffusion", "offline"): ("output+fitnet", "output", "progressive"),
    ("diffusion", "online"): ("mutual",),
    ("language", "offline"): ("kd",),
    ("language", "online"): ("dml",),
}
"""Task and regime to established methods; the first that a block has is its reference. They are fixed before scores are
known: the best row of a table is the best by luck as well, and would show a larger effect than there is."""
MOST_SEEDS = 1000
"""More seeds than this are not looked for."""
LAST = 0.1
"""The share of training, at its end, over which curves should be flat."""


@dataclass(frozen=True)
class Merit:
    """The figures of merit of a block. Differences are in the score's unit, positive where better than the baseline.

    Attributes:
        rows: how many are ranked and tested, the baseline among them.
        seeds: on how many.
        gap: how much better the teacher is than the baseline, mean over seeds; None where there is no one teacher.
        reference: label of the established method that is looked at; None where the block has none.
        effect: how much better it is than the baseline, mean over seeds.
        effect_low: the lower end of the test's 95 % interval of that.
        effect_high: its upper end.
        noise: standard deviation of a score, means of rows and seeds taken out, pooled over the rows but the noisy
            ones; where the baseline is noisy, that of a difference to it, by √2. None where nothing can be tested.
        noise_low: the lower end of its 95 % interval.
        noise_high: the upper end.
        noisy: labels of the rows whose noise exceeds the others' so grossly that tests do not pool it.
        smallest: the true difference to the baseline that a row of this noise shows with 80 % probability.
        seeds_needed: how many seeds show half of the reference's effect with 80 % probability; None where it has none,
            or more than :data:`MOST_SEEDS` are needed.
        late_gain: how much better students become on validation data in the last tenth of training, in units of the
            noise; mean over seeds and the rows that train no longer than others. None where records hold no such
            curves.
        cost_s: what one further seed of every row takes: seconds of a core, or of a GPU; None where that is unknown.
        on_gpu: whether it is a GPU; None where records are of several devices, whose seconds do not add up.
    """

    rows: int
    seeds: int
    gap: float | None = None
    reference: str | None = None
    effect: float | None = None
    effect_low: float | None = None
    effect_high: float | None = None
    noise: float | None = None
    noise_low: float | None = None
    noise_high: float | None = None
    noisy: tuple[str, ...] = ()
    smallest: float | None = None
    seeds_needed: int | None = None
    late_gain: float | None = None
    cost_s: float | None = None
    on_gpu: bool | None = None


def measure(block: Block) -> Merit:
    """The figures of merit of a block that has a baseline with scores."""
    tested = Tested(block)
    row = reference(block, tested)
    devices = {(r.environment.get("device"), r.environment.get("cuda") is not None) for r in block.records()}
    on_gpu = devices.pop()[1] if len(devices) == 1 else None
    merit = Merit(
        rows=len(tested.lines),
        seeds=len(block.seeds),
        gap=_better(block, teacher_by_seed(block)),
        reference=row.label if row else None,
        effect=_better(block, row.values("student")) if row else None,
        cost_s=_cost(block, on_gpu),
        on_gpu=on_gpu,
    )
    return _with_power(merit, block, tested, row)


def reference(block: Block, tested: Tested) -> Line | None:
    """The first method of :data:`REFERENCES` that is ranked and trained no longer than the others; its first row."""
    ranked = {id(line) for line in tested.lines}
    for name in REFERENCES.get((block.cell.task, block.cell.regime), ()):
        for line in block.lines:
            parts = sorted(part.name for part in line.parts)
            if id(line) in ranked and parts == sorted(name.split("+")) and line.stretch is None:
                return line
    return None


def _with_power(merit: Merit, block: Block, tested: Tested, row: Line | None) -> Merit:
    """The figures with those that need noise; as they are where nothing can be tested."""
    if tested.blocked is None or tested.blocked.baseline is None:
        return merit
    from results.analysis.power import Contrast  # loads numpy, as all tests do

    noisy, pair, rivals = tested.noisy, tested.blocked.beside_baseline, merit.rows - 1
    contrast = Contrast(rivals, float(pair.df) / (merit.seeds - 1), float(pair.correlation))
    noise = statistics.rounded(float(pair.noise))
    ends = contrast.noise_interval(noise, merit.seeds)
    merit = replace(
        merit,
        noise=noise,
        noise_low=ends[0],
        noise_high=ends[1],
        noisy=tuple(line.label for line in noisy),
        smallest=contrast.smallest(noise, merit.seeds),
        late_gain=_late_gain(block, tested, noise),
    )
    if row is None or merit.effect is None:
        return merit
    own = noise
    if any(row is line for line in noisy):
        own, contrast = _noise_of_two(row, tested.lines[tested.blocked.baseline]), Contrast.alone(rivals)
    half = contrast.half_width(own, merit.seeds)
    needed = contrast.seeds_needed(merit.effect / 2, own, MOST_SEEDS) if merit.effect > 0 else None
    return replace(merit, effect_low=merit.effect - half, effect_high=merit.effect + half, seeds_needed=needed)


def _noise_of_two(row: Line, baseline: Line) -> float:
    """As :attr:`Merit.noise`, of two rows alone: their paired t-test's."""
    from results.analysis.blocked import by_seed

    return float(by_seed([row.values("student"), baseline.values("student")]).noise)


def _better(block: Block, scores: Mapping[int, float]) -> float | None:
    """How much better scores by seed are than the baseline's, mean over the seeds that both have."""
    if block.baseline is None or not block.comparable:
        return None
    difference = statistics.paired_difference(scores, block.baseline.values("student"))
    return None if difference is None else _sign(block) * difference.mean


def _sign(block: Block) -> float:
    return 1.0 if block.higher_is_better else -1.0


def _late_gain(block: Block, tested: Tested, noise: float) -> float | None:
    metric = block.primary.metric if block.primary else ""
    lines = [line for line in tested.lines if line.stretch is None]
    records = [record for line in lines for _, record in sorted(line.records.items())]
    gains = [gain for record in records if (gain := _last_rise(record, f"validation.student.{metric}")) is not None]
    return _sign(block) * math.fsum(gains) / len(gains) / noise if gains and noise > 0 else None


def _last_rise(record: Record, key: str) -> float | None:
    """By how much a curve rises in the last tenth of training; between epochs it is taken for straight.

    None where the curve has no value before that, or none within.
    """
    epochs, values = record.curves.get("epoch", []), record.curves.get(key, [])
    known = [(x, y) for x, y in zip(epochs, values, strict=False) if x is not None and y is not None]
    begin = (1 - LAST) * max((epoch for epoch in epochs if epoch is not None), default=0.0)
    before, after = [point for point in known if point[0] <= begin], [point for point in known if point[0] > begin]
    if not before or not after:
        return None
    (left, low), (right, high) = before[-1], after[0]
    return after[-1][1] - (low + (high - low) * (begin - left) / (right - left))


def _cost(block: Block, on_gpu: bool | None) -> float | None:
    """Set-up, training and evaluation of a seed of every row, each cell as if it were trained alone."""
    if on_gpu is None:
        return None
    rows = []
    for line in block.lines:
        seconds = [_seconds(record, on_gpu) for _, record in sorted(line.records.items())]
        rows.append(math.fsum(seconds) / len(seconds) if seconds else 0.0)
    return math.fsum(rows) or None


def _seconds(record: Record, on_gpu: bool) -> float:
    cost, threads = record.cost, record.environment.get("threads")
    cores = threads if isinstance(threads, int) and not on_gpu else 1
    return cores * math.fsum(phase for phase in (cost.setup_s, cost.train_s, cost.eval_s) if phase is not None)
