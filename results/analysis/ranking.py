"""What ranks in a block, which rows are among the best, and how much of the way to the teacher each goes.

numpy is loaded when rows are tested: the names of tables are asked for by commands that test none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from results.analysis import statistics
from results.analysis.blocks import Block, Line
from results.analysis.statistics import Difference

if TYPE_CHECKING:
    from results.analysis.blocked import Blocked


def gain_over_baseline(block: Block, line: Line) -> float | None:
    """The normalised gain of a row, over the seeds that row, baseline and teacher share.

    Offline the teacher is the frozen one; online it is the teacher of the baseline row, which learned alone. None
    where rows may not be compared, the teacher is not better than the baseline, or the baseline's 95 % interval reaches
    the teacher, so that there may be no way to go.
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


def teacher_by_seed(block: Block) -> dict[int, float]:
    """Seed to the score of the teacher of the baseline row, frozen or, online, learning alone.

    Empty where there is none, or frozen ones of different scores.
    """
    if len(block.frozen_teacher) == 1 and block.baseline is not None:
        return dict.fromkeys(block.baseline.values("student"), block.frozen_teacher[0])
    return block.solo_teacher


def _with_teacher(block: Block, line: Line) -> dict[int, tuple[float, float, float]]:
    """Seed to the scores of a row, the baseline and the teacher; empty where no gain can be measured."""
    baseline = block.baseline
    if baseline is None or block.primary is None or line is baseline or not block.comparable:
        return {}
    method, none, teacher = line.values("student"), baseline.values("student"), teacher_by_seed(block)
    known, reached = statistics.summarize(list(none.values())), statistics.summarize(list(teacher.values()))
    if (
        known
        and reached
        and known.low is not None
        and known.high is not None
        and known.low <= reached.mean <= known.high
    ):
        return {}  # a ratio to a way that may be none
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


@dataclass(frozen=True)
class Tested:
    """The ranked rows of a block, tested on the primary score of one network: one family.

    Attributes:
        block: whose rows.
        network: ``student``, or ``teacher``: online, the teacher of the baseline row learned alone. Frozen teachers are
            the same for all rows and are not tested.
    """

    block: Block
    network: str = "student"

    @cached_property
    def lines(self) -> list[Line]:
        """The rows that are tested, best student first."""
        return [line for line in ranked(self.block) if line.values(self.network).keys() == self.block.seeds]

    @cached_property
    def blocked(self) -> Blocked | None:
        """Their design; None where nothing can be tested: fewer than two rows, or one seed."""
        if len(self.lines) < 2 or len(self.block.seeds) < 2 or (self.network == "teacher" and self._alone is None):
            return None
        from results.analysis.blocked import by_seed

        baseline = next((place for place, line in enumerate(self.lines) if line is self.block.baseline), None)
        return by_seed([line.values(self.network) for line in self.lines], baseline)

    @property
    def noisy(self) -> list[Line]:
        """The rows whose noise exceeds the others' so grossly that it is not pooled with theirs."""
        if self.blocked is None:
            return []
        return [line for line, aside in zip(self.lines, self.blocked.aside, strict=True) if aside]

    @cached_property
    def best(self) -> list[Line]:
        """The rows that are best or cannot be told from the best: always the first of :attr:`lines`.

        Where nothing can be tested, what has the best mean.
        """
        if self.blocked is None:
            return [line for line in self.lines if line.values(self.network) == self.lines[0].values(self.network)]
        inside = self.blocked.among_best(self.block.higher_is_better)
        return [line for line, among in zip(self.lines, inside, strict=True) if among]

    @cached_property
    def differences(self) -> dict[int, Difference]:
        """Every row's difference to the baseline by the row's id, none for the baseline itself.

        There is no p for rows that are not tested, nor for any where the baseline is not. Empty where there is no
        baseline or rows may not be compared.
        """
        alone = self._alone
        if alone is None:
            return {}
        p_values: dict[int, float] = {}
        if self.blocked is not None and self.blocked.baseline is not None:
            p_values = dict(zip(map(id, self.lines), self.blocked.p_values(), strict=True))
        found = {
            id(line): statistics.paired_difference(line.values(self.network), alone)
            for line in self.block.lines
            if line is not self.block.baseline
        }
        return {line: replace(one, p=p_values.get(line)) for line, one in found.items() if one is not None}

    @property
    def _alone(self) -> dict[int, float] | None:
        """Seed to the baseline's score."""
        baseline = self.block.baseline
        if baseline is None or not self.block.comparable or (self.network == "teacher" and not self.block.solo_teacher):
            return None
        return baseline.values(self.network)


def best_lines(block: Block) -> list[Line]:
    """The ranked rows that are best or cannot be told from the best: always the first ones of :func:`ranked`."""
    return Tested(block).best
