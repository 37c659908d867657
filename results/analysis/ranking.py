"""What ranks in a block, which rows are among the best, and how much of the way to the teacher each goes."""

from __future__ import annotations

import math

from results.analysis import statistics
from results.analysis.blocks import Block, Line


def gain_over_baseline(block: Block, line: Line) -> float | None:
    """The normalised gain of a row, over the seeds that row, baseline and teacher share.

    Offline the teacher is the frozen one; online it is the teacher of the baseline row, which learned alone. None
    where rows may not be compared, or the teacher is not better than the baseline.
    """
    baseline, primary = block.baseline, block.primary
    if baseline is None or primary is None or line is baseline or not block.comparable:
        return None
    method, none = line.values("student"), baseline.values("student")
    frozen, solo = block.frozen_teacher, block.solo_teacher
    if len(frozen) == 1:
        solo = dict.fromkeys(none, frozen[0])
    seeds = method.keys() & none.keys() & solo.keys()
    if not seeds:
        return None
    # fsum is exact; sum() of floats rounds otherwise from Python 3.12 on, and tables are to be equal to the byte
    ours, base, teacher = (math.fsum(values[seed] for seed in seeds) / len(seeds) for values in (method, none, solo))
    return statistics.normalized_gain(ours, base, teacher, primary.higher_is_better)


def ranked(block: Block) -> list[Line]:
    """The complete rows, best mean first; equal means by label. None of a block whose rows may not be compared."""
    if not block.comparable:
        return []
    primary = block.primary
    sign = -1.0 if primary is None or primary.higher_is_better else 1.0
    means = {id(line): statistics.summarize(list(line.values("student").values())) for line in block.lines}
    complete = [line for line in block.lines if line.complete and means[id(line)]]
    return sorted(complete, key=lambda line: (sign * (m.mean if (m := means[id(line)]) else 0.0), line.label))


def best_lines(block: Block) -> list[Line]:
    """The complete rows that are best or cannot be told from the best."""
    lines = ranked(block)
    higher = block.primary is None or block.primary.higher_is_better
    best = statistics.best_set([line.values("student") for line in lines], higher)
    return [lines[index] for index in sorted(best)]
