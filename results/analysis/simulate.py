"""How often the tests of a table are wrong, and how often they find what is there.

    python -m results.analysis.simulate

Scores are drawn: normal noise around each row's true mean, and a value per seed that all rows share. Of the tables'
tests it uses the very code. They are held against what tables had before: a paired t-test per row, adjusted by Holm.

A table has R rows on N seeds; the first is the baseline. Columns of what is printed, in %:

error      family-wise error: all means equal, and some row is told from the baseline all the same
power      one row is better by 2.5 standard deviations of its difference, and is told from the baseline
best out   all means equal, and a given row (it is among the best in truth) is not bold
bold       one row is better as above: how many of the R rows are bold

each for the old tests and the new; ``aside`` is how often the new ones set rows aside whose noise is grossly uneven.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from results.analysis.blocked import LEVEL, Blocked, Flags, Floats
from results.analysis.holm import holm

REPEATS = 20_000
"""Tables drawn for each line: a rate of 5 % is then known to ± 0.3 %."""
ROWS = (3, 6, 12)
SEEDS = (3, 5, 10)
_BETTER = 2.5
_AT_ONCE = 2_000
"""Tables held at once."""
_HEADS = ("noise of the rows", "rows", "seeds", "error", "power", "best out", "bold", "aside")


@dataclass(frozen=True)
class Rates:
    """What was counted for one kind of table, as shares of the tables drawn; ``bold`` is a mean number of rows."""

    error: float
    power: float
    best_out: float
    bold: float
    aside: float


def noises(rows: int) -> dict[str, Floats]:
    """Standard deviations of the rows' noise, [R], by what they are called; from even to grossly uneven."""
    ones = np.ones(rows)
    one, baseline, gross = ones.copy(), ones.copy(), ones.copy()
    one[-1] = baseline[0] = 2.0
    gross[-1] = 5.0
    spread = np.linspace(1.0, 2.0, rows)[(np.arange(rows) + rows // 2) % rows]
    return {"equal": ones, "from 1 to 2": spread, "one row 2": one, "baseline 2": baseline, "one row 5": gross}


def rates(noise: Sequence[float] | Floats, seeds: int, repeats: int, old: bool) -> Rates:
    """Draw tables and count.

    Args:
        noise: standard deviation of each row's noise, [R]; the baseline is the first.
        seeds: N ≥ 2.
        repeats: tables drawn, with and without a better row each.
        old: whether to count for the tests of before.
    """
    sigma = np.asarray(noise)
    better = _BETTER * np.hypot(sigma[0], sigma[1]) / np.sqrt(2)
    counts = np.zeros(5)
    for scores in _tables(sigma, seeds, repeats):
        changed = scores.copy()
        changed[:, 1] += better
        told, bold = _judge(scores, old)
        told_one, bold_one = _judge(changed, old)
        aside = 0.0 if old else float(Blocked(scores, 0).aside.any(-1).sum())
        counts += [told.any(-1).sum(), told_one[:, 1].sum(), (~bold).mean(-1).sum(), bold_one.sum(), aside]
    return Rates(*(counts / repeats).tolist())


def _tables(sigma: Floats, seeds: int, repeats: int) -> Iterator[Floats]:
    """[B, R, N] at a time: the same for the same arguments."""
    source = np.random.default_rng(0)
    for start in range(0, repeats, _AT_ONCE):
        count = min(_AT_ONCE, repeats - start)
        shared = source.normal(size=(count, 1, seeds))
        yield shared + sigma[:, None] * source.normal(size=(count, len(sigma), seeds))


def _judge(scores: Floats, old: bool) -> tuple[Flags, Flags]:
    """Which rows are told from the first, and which are bold, [B, R] each."""
    if not old:
        blocked = Blocked(scores, 0)
        return blocked.told_apart(), blocked.among_best(True)
    told = np.zeros(scores.shape[:2], bool)
    told[:, 1:] = holm(_paired_p(scores[:, 1:] - scores[:, :1])) < LEVEL
    best = scores.mean(-1).argmax(-1)[:, None]
    p_values = _paired_p(scores - np.take_along_axis(scores, best[..., None], 1))
    # the best itself takes no part in Holm's adjustment: put last, it changes nobody's
    rivals = np.argsort(np.arange(scores.shape[1]) == best, axis=-1, kind="stable")[:, :-1]
    bold = np.ones(scores.shape[:2], bool)
    np.put_along_axis(bold, rivals, holm(np.take_along_axis(p_values, rivals, 1)) >= LEVEL, 1)
    return told, bold


def _paired_p(differences: Floats) -> Floats:
    """Two-sided p of the t-test along the last axis; 1 for differences that are all zero."""
    from scipy.special import stdtr

    seeds = differences.shape[-1]
    error = differences.std(-1, ddof=1) / np.sqrt(seeds)
    size = np.abs(differences.mean(-1))
    t = np.divide(size, error, out=np.zeros_like(size), where=error > 0)
    p_values: Floats = 2.0 * stdtr(seeds - 1, -t)
    return p_values


def lines(repeats: int) -> Iterator[str]:
    """The table in Markdown, line by line."""
    yield f"| {' | '.join(_HEADS)} |"
    yield "| :--- |" + " ---: |" * (len(_HEADS) - 1)
    for name in noises(ROWS[0]):
        for rows in ROWS:
            for seeds in SEEDS:
                yield line(name, rows, seeds, repeats)


def line(name: str, rows: int, seeds: int, repeats: int) -> str:
    """One line of it: a kind of noise and a size; before → now."""
    old, new = (rates(noises(rows)[name], seeds, repeats, old) for old in (True, False))
    shares = ((old.error, new.error), (old.power, new.power), (old.best_out, new.best_out))
    told = [f"{100 * before:.1f} → {100 * now:.1f}" for before, now in shares]
    told += [f"{old.bold:.1f} → {new.bold:.1f}", f"{100 * new.aside:.0f}"]
    return f"| {' | '.join([name, str(rows), str(seeds), *told])} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Error and power of the tables' tests, before → now, in %.")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="tables drawn for each line (%(default)s)")
    for printed in lines(parser.parse_args().repeats):
        print(printed, flush=True)
