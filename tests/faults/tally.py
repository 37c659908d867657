"""Rounds until enough kills have been dealt out, and the table of what they did."""

from __future__ import annotations

import os
import platform
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.rounds import Round
from tests.faults.steps import Break
from tests.faults.striking import KILLS
from tests.faults.worker import CHECKPOINT_SECONDS

KILLS_OF_A_ROUND = 40
"""A round must end for its tables to be compared."""


@dataclass
class Tally:
    """What was counted over all rounds.

    Attributes:
        faults: how often each kind was dealt out.
        breaks: every training that was broken off and taken up again.
        survived: kills after which a round ended with all cells, each trained once, and the tables of the calm run.
        rounds: stores that were trained from nothing to complete tables.
        cells: that were trained, over all rounds.
        needed: steps of the calm run times the rounds.
        taken: steps in all rounds.
        lost: cells without a record of status ok.
        twice: trainings that followed a complete one, though nothing that this had left was spoilt.
        seconds: of all rounds, without the calm run.
        wrong: what must not have happened, in words.
    """

    faults: Counter[str] = field(default_factory=Counter)
    breaks: list[Break] = field(default_factory=list)
    survived: int = 0
    rounds: int = 0
    cells: int = 0
    needed: int = 0
    taken: int = 0
    lost: int = 0
    twice: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """How many kills were dealt out."""
        return sum(self.faults[kind] for kind in KILLS)

    def add(self, done: Round, calm: Round) -> None:
        """Count a round that has ended."""
        lost, twice = done.lost(), done.twice()
        wrong = [*done.problems, *(f"cell {cell} is lost" for cell in lost)]
        wrong += [f"{twice} trainings followed a complete one"] * bool(twice)
        wrong += ["tables differ from the calm run's"] * (done.tables() != calm.tables())
        wrong += ["records differ from the calm run's"] * (done.science() != calm.science())
        self.wrong += [f"{done.store}: {each}" for each in wrong]
        self.survived += 0 if wrong else done.kills
        self.faults.update(fault.kind for fault in done.faults)
        self.breaks += done.breaks()
        self.rounds, self.cells = self.rounds + 1, self.cells + len(list((done.store / "steps").iterdir()))
        self.needed, self.taken = self.needed + calm.steps(), self.taken + done.steps()
        self.lost, self.twice = self.lost + len(lost), self.twice + twice

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        kinds = {kind: {"times": self.faults[kind], **_figures(self._of([kind]))} for kind in self._kinds()}
        whole = {"times": self.kills, **_figures(self._of(KILLS))}
        counts = {
            key: getattr(self, key)
            for key in ("kills", "survived", "rounds", "cells", "lost", "twice", "needed", "taken", "wrong")
        }
        machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
        return counts | {"all_kills": whole, "kinds": kinds, "seconds": round(self.seconds), "machine": machine}

    def table(self) -> str:
        """Markdown."""
        lines = [
            "| fault | times | trainings broken off | from a checkpoint | steps repeated: mean per fault | most |",
            "| :--- | ---: | ---: | ---: | ---: | ---: |",
        ]
        for kind in self._kinds():
            lines.append(_row(kind, self.faults[kind], self._of([kind])))
        lines.append(_row("**all kills**", self.kills, self._of(KILLS)))
        seconds = [each.seconds for each in self._of(KILLS)]
        return "\n".join([
            *lines,
            "",
            f"{self.survived} of {self.kills} kills survived, in {self.rounds} rounds of {self.cells} cells. Cells "
            f"lost: {self.lost}; run twice: {self.twice}. Steps needed: {self.needed}; taken: {self.taken}. A training "
            f"that a kill broke off repeated {_mean(seconds):.2f} s, at most {max(seconds, default=0.0):.2f} s, with "
            f"a checkpoint every {CHECKPOINT_SECONDS} s. {self.seconds / 60:.0f} minutes on "
            f"{os.cpu_count()} cores.",
            *(f"- WRONG: {each}" for each in self.wrong),
        ])  # fmt: skip

    def _kinds(self) -> list[str]:
        return [*KILLS, *sorted({*self.faults, *(each.kind for each in self.breaks)} - KILLS.keys())]

    def _of(self, kinds: Sequence[str] | dict[str, Any]) -> list[Break]:
        return [each for each in self.breaks if each.kind in kinds]


def measure(
    suite: Path, folder: Path, kills: int, dice: random.Random, say: Callable[[str], None] = lambda _: None
) -> Tally:
    """Train a suite calmly, then under faults until so many kills have been dealt out.

    Args:
        suite: its file.
        folder: where the stores go.
        kills: how many at least.
        dice: decides what happens when.
        say: is told after each round.
    """
    calm, tally = Round(suite, folder / "calm", dice), Tally()
    calm.run(kills=0)
    tally.wrong += calm.problems
    began = time.monotonic()
    while tally.kills < kills and not tally.wrong:
        round_ = Round(suite, folder / f"round-{tally.rounds + 1}", dice)
        round_.run(min(kills - tally.kills, KILLS_OF_A_ROUND))
        tally.add(round_, calm)
        tally.seconds = time.monotonic() - began
        say(f"{tally.kills} kills in {tally.rounds} rounds, {tally.seconds:.0f} s; {tally.wrong or 'all is well'}")
    return tally


def _figures(found: Sequence[Break]) -> dict[str, Any]:
    return {
        "broken_off": len(found),
        "from_checkpoint": sum(each.resumed for each in found),
        "steps_repeated": sum(each.steps for each in found),
        "most_steps_repeated": max((each.steps for each in found), default=0),
        "seconds_repeated": round(sum(each.seconds for each in found), 2),
    }


def _row(name: str, times: int, found: Sequence[Break]) -> str:
    numbers = _figures(found)
    mean = f"{numbers['steps_repeated'] / times:.1f}" if times else "-"
    cells = [name, times, numbers["broken_off"], numbers["from_checkpoint"], mean, numbers["most_steps_repeated"]]
    return f"| {' | '.join(map(str, cells))} |"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
