"""What ranks in a block, which rows are among the best, and how much of the way to the teacher each goes."""

from __future__ import annotations

import math
from dataclasses import replace

from results.analysis import statistics
from results.analysis.blocked import Blocked, by_seed
from results.analysis.blocks import Block, Line
from results.analysis.statistics import Difference


def gain_over_baseline(block: Block, line: Line) -> float | None:
    """The normalised gain of a row, over the seeds that row, baseline and teacher share.

    Offline the teacher is the frozen one; online it is the teacher of the baseline row, which learned alone. None
    where rows may not be compared, or the teacher is not better than the baseline.
    """
    shared = _with_teacher(block, line)
    if not shared:
        return None
    ours, base, teacher = (math.fsum(column) / len(shared) for column in zip(*shared.values(), strict=True))
    return statistics.normalized_gain(ours, base, teacher, block.higher_is_better)


def gains_by_seed(block: Block, line: Line) -> dict[int, float]:
    """Each seed's share in :func:`gain_over_baseline`, which is their mean; empty where that is None.

    The way from baseline to teacher is the mean over seeds: a seed's own may be next to nothing.
    """
    shared = _with_teacher(block, line)
    if not shared:
        return {}
    _, base, teacher = (math.fsum(column) / len(shared) for column in zip(*shared.values(), strict=True))
    gains = {
        seed: statistics.normalized_gain(base + ours - none, base, teacher, block.higher_is_better)
        for seed, (ours, none, _) in shared.items()
    }
    return {seed: gain for seed, gain in gains.items() if gain is not None}


def _with_teacher(block: Block, line: Line) -> dict[int, tuple[float, float, float]]:
    """Seed to the scores of a row, the baseline and the teacher; empty where no gain can be measured."""
    baseline = block.baseline
    if baseline is None or block.primary is None or line is baseline or not block.comparable:
        return {}
    method, none, teacher = line.values("student"), baseline.values("student"), block.solo_teacher
    if len(block.frozen_teacher) == 1:
        teacher = dict.fromkeys(none, block.frozen_teacher[0])
    # fsum is exact; sum() of floats rounds otherwise from Python 3.12 on, and tables are to be equal to the byte
    seeds = sorted(method.keys() & none.keys() & teacher.keys())
    return {seed: (method[seed], none[seed], teacher[seed]) for seed in seeds}


def ranked(block: Block) -> list[Line]:
    """The complete rows on the table's seeds, best mean first; equal means by label.

    None of a block whose rows may not be compared.
    """
    if not block.comparable:
        return []
    sign = -1.0 if block.higher_is_better else 1.0
    means = {id(line): statistics.summarize(list(line.values("student").values())) for line in block.lines}
    complete = [line for line in block.lines if block.stands(line) and means[id(line)]]
    return sorted(complete, key=lambda line: (sign * (m.mean if (m := means[id(line)]) else 0.0), line.label))


def design(block: Block, network: str = "student") -> tuple[list[Line], Blocked] | None:
    """The rows that are tested on the primary score of a network, in the order of :func:`ranked`, and their design.

    None where nothing can be tested: fewer than two rows, or one seed.
    """
    lines = [line for line in ranked(block) if line.values(network).keys() == block.seeds]
    if len(lines) < 2 or len(block.seeds) < 2:
        return None
    place = next((index for index, line in enumerate(lines) if line is block.baseline), None)
    return lines, by_seed([line.values(network) for line in lines], place)


def best_lines(block: Block) -> list[Line]:
    """The ranked rows that are best or cannot be told from the best: always the first ones of :func:`ranked`.

    Where nothing can be tested, what has the best mean.
    """
    found = design(block)
    if found is not None:
        lines, blocked = found
        inside = blocked.among_best(block.higher_is_better)
        return [line for line, among in zip(lines, inside, strict=True) if among]
    lines = ranked(block)
    return [line for line in lines if line.values("student") == lines[0].values("student")]


def against_baseline(block: Block, network: str) -> dict[int, Difference]:
    """Every row held against the baseline, on the primary score of one network: one family of tests.

    Args:
        block: whose rows; nothing is compared where they may not be, or there is no baseline.
        network: ``student``, or ``teacher``: online, the teacher of the baseline row learned alone. Frozen teachers are
            the same for all rows and are not compared.

    Returns:
        Differences by the id of the row, none for the baseline. There is no p for rows that are not ranked, nor for any
        where the baseline is not.
    """
    baseline, found = block.baseline, design(block, network)
    if baseline is None or not block.comparable or (network == "teacher" and not block.solo_teacher):
        return {}
    p_values: dict[int, float] = {}
    lines, blocked = found or ([], None)
    if blocked is not None and blocked.baseline is not None:
        p_values = dict(zip(map(id, lines), blocked.p_values(), strict=True))
    differences = {}
    for line in block.lines:
        difference = statistics.paired_difference(line.values(network), baseline.values(network))
        if difference is not None and line is not baseline:
            differences[id(line)] = replace(difference, p=p_values.get(id(line)))
    return differences
