"""Rounds: a suite trained from an empty store to its tables, under faults, and what is compared with a calm run."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results.records.store import Store
from suites.spec.expand import expand
from tests.faults.steps import Break, Fault, breaks, stretches, trained_twice
from tests.faults.striking import Runner, litter, strike, suspend, tear, workers
from tests.suites.command_line import adm

ROOT = Path(__file__).resolve().parents[2]
FULL_FOR_WORKERS, FULL_FOR_RUNNER = 250 * 1024, 4 * 1024
"""Bytes that a file may have where the disk is full: too little for an online cell's checkpoint, and for a record."""
MOST_RUNS = 100
_SCIENCE = {"id", "status", "scores", "primary", "curves", "teacher", "capabilities", "data_digest"}


@dataclass
class Round:
    """A store under faults.

    Args:
        suite: its file.
        store: an empty folder's name.
        dice: decides what happens when.

    Attributes:
        faults: what was done.
        kills: how many of them were kills.
        problems: what must not have happened, in words.
    """

    suite: Path
    store: Path
    dice: random.Random
    faults: list[Fault] = field(default_factory=list)
    kills: int = 0
    problems: list[str] = field(default_factory=list)

    def run(self, kills: int) -> None:
        """Run the suite again and again until it is complete, under at most so many kills."""
        for _ in range(MOST_RUNS):
            chance = self.dice.random()
            if self.kills >= kills:
                ended = self._wait([self._launch()])
            elif chance < 0.08:
                ended = self._race(kills)
            elif chance < 0.16:
                ended = self._on_a_full_disk()
            else:
                ended = self._under_kills([self._launch()], kills)
            if ended and self._complete():
                return
            for spoil in (tear, litter):
                if kills and self.dice.random() < 0.4:
                    self._note(spoil(self.store, self.dice))
        self.problems.append(f"not complete after {MOST_RUNS} runs")

    def breaks(self) -> list[Break]:
        """The breaks in the training of all cells."""
        return [each for cell in self._cells() for each in breaks(cell, self._stretches(cell), self.faults)]

    def twice(self) -> int:
        """How many trainings followed a complete one for nothing."""
        return sum(trained_twice(cell, self._stretches(cell), self.faults) for cell in self._cells())

    def steps(self) -> int:
        """Training steps that were taken, of all cells."""
        return sum(len(stretch.times) for cell in self._cells() for stretch in self._stretches(cell))

    def lost(self) -> list[str]:
        """The suite's cells that have no record of status ok."""
        found, _ = Store(self.store).records()
        return [row.id for row in expand(str(self.suite)).rows if row.id not in found or found[row.id].status != "ok"]

    def science(self) -> dict[str, Any]:
        """What the records of the suite's cells say, but for what running them took."""
        found, _ = Store(self.store).records([row.id for row in expand(str(self.suite)).rows])
        return {cell: record.model_dump(mode="json", include=_SCIENCE) for cell, record in found.items()}

    def tables(self) -> list[str]:
        """The tables of the scores in every form of text."""
        name, forms = self.suite.stem, ("terminal", "md", "latex", "csv")
        return [adm("report", name, "--store", self.store, "--format", form).out for form in forms]

    @property
    def _logs(self) -> Path:
        return self.store.with_suffix(".logs")

    def _cells(self) -> list[str]:
        return sorted(folder.name for folder in (self.store / "steps").glob("*"))

    def _stretches(self, cell: str) -> list[Any]:
        return stretches(self.store / "steps" / cell)

    def _complete(self) -> bool:
        return self.store.exists() and not self.lost()

    def _note(self, fault: Fault | None, kills: bool = False) -> None:
        if fault is not None:
            self.faults.append(fault)
            self.kills += kills

    def _launch(self, slots: int = 2) -> Runner:
        self._logs.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.faults.command", "run", str(self.suite), "--store", str(self.store)]
        alone = self.dice.choice(([], ["--group", "1"]))  # offline cells of a seed together, or each by itself
        log_file = self._logs / f"{len(list(self._logs.iterdir())):03d}.txt"
        with log_file.open("wb") as log:
            return subprocess.Popen(
                [*command, "--executor", "noted", "--device", "cpu", "--workers", str(slots), *alone],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def _wait(self, runners: Sequence[Runner], allowed: Sequence[int] = (0, 1)) -> bool:
        """Whether all runners have ended as they may; a status that may not be is a problem."""
        codes = [runner.wait() for runner in runners]
        for code in codes:
            if code not in allowed:
                self.problems.append(f"a runner ended with status {code}; see {self._logs}")
        return all(code in allowed for code in codes)

    def _under_kills(self, runners: Sequence[Runner], kills: int) -> bool:
        """Kill, at random moments, until the runners have ended; whether all of them were let come to their end."""
        if self.dice.random() < 0.1:
            self._pass(runners[0], self.dice.uniform(0.0, 6.0))
            self._note(strike(runners[0], self.dice), kills=True)
        while (left := [runner for runner in runners if runner.poll() is None]) and self.kills < kills:
            runner = self.dice.choice(left)
            self._await_workers(runner, training=self.dice.random() < 0.8)
            self._pass(runner, self.dice.uniform(0.0, 2.0))
            if self.dice.random() < 0.1:
                self._note(suspend(runner, self.dice))
            else:
                self._note(strike(runner, self.dice), kills=True)
        return self._wait(runners, (0, 1, 130, -9))

    def _race(self, kills: int) -> bool:
        """Three runners at once."""
        self._note(Fault("three runners at once", time.monotonic(), ends=False))
        return self._under_kills([self._launch(slots=1) for _ in range(3)], kills)

    def _on_a_full_disk(self) -> bool:
        """A run whose workers can keep no large checkpoint, or one whose runner can write no record."""
        runner, whose = self._launch(), self.dice.choice(["the workers", "the runner"])
        size = FULL_FOR_WORKERS
        if whose == "the runner":
            self._await_workers(runner)  # which keep the limit that they were born with
            size = FULL_FOR_RUNNER
        if runner.poll() is None:
            resource.prlimit(runner.pid, resource.RLIMIT_FSIZE, (size, size))
        ended = self._wait([runner], (0, 1, 2))
        self._note(Fault(f"disk full for {whose}", time.monotonic()))
        return ended

    def _await_workers(self, runner: Runner, training: bool = False) -> None:
        """Wait until a runner has workers, or one that has taken a step; or has ended."""
        while runner.poll() is None:
            found = workers(runner)
            notes = [file for pid in found for file in self.store.glob(f"steps/*/*-{pid}.txt")]
            if any(file.stat().st_size for file in notes) if training else found:
                return
            time.sleep(0.05)

    def _pass(self, runner: Runner, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and runner.poll() is None:
            time.sleep(0.02)
