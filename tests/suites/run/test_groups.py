"""Cells that one worker trains together: what becomes of each when the worker, or one of them, ends badly."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest
from command_line import adm
from conftest import SUITE, scores, starts
from drive import DRIVER, drive, find, record
from rich.console import Console
from suite_test_worker import train

from results.records.store import Store
from suites.executors.base import Ending, Executor, ExecutorOptions, Handle, Job
from suites.plan.groups import Room
from suites.plan.plan import make_plan
from suites.run.display import PlainDisplay
from suites.run.runner import Runner
from suites.spec.expand import expand
from suites.work.locks import acquire
from suites.work.options import RunOptions
from suites.worker.entry import run_cell
from tests.processes import wait_for

Behave = Callable[[dict[str, str]], None]
METHODS = ["none", "kd", "dkd", "at"]
"""Of the suite's offline cells, in their order."""
GROUPS = SUITE.replace("[none, kd]", "[none, kd, dkd, at]")
OFFLINE = "title: offline\nblocks:\n  - title: Offline\n" + GROUPS.partition("  - title: Offline\n")[2]


@pytest.fixture
def offline(write_suite: Callable[[str], Path]) -> Path:
    """A suite of one teacher and four methods with two seeds that learn from it."""
    return write_suite(OFFLINE)


def groups(suite: Path, store: Path) -> list[list[str]]:
    """What each worker began to train, as method/seed, workers in the order in which they began."""
    names = {cell.id: f"{cell.cell.method_name}/{cell.cell.seed}" for cell in expand(str(suite)).rows}
    found: dict[str, list[str]] = defaultdict(list)
    for line in (store / "workers.txt").read_text().splitlines():
        worker, cell = line.split()
        if cell in names:
            found[worker].append(names[cell])
    return list(found.values())


def attempts(suite: Path, store: Path, method: str, seed: int = 0) -> list[str]:
    return [attempt.status for attempt in record(suite, store, method, seed).attempts]


def epochs(store: Path, cell: str) -> list[str]:
    """The epochs of a cell that were trained, in order."""
    trained = (line.split("-") for line in (store / "epochs.txt").read_text().split())
    return [epoch for trained_cell, epoch in trained if trained_cell == cell]


@pytest.mark.parametrize(
    ("workers", "group", "sizes"),
    [(1, 3, [3, 1, 3, 1]), (2, 8, [4, 4]), (4, 8, [2, 2, 2, 2])],
)
def test_cells_of_one_seed_are_trained_together_so_that_all_workers_have_work(
    offline: Path, store: Path, workers: int, group: int, sizes: list[int]
) -> None:
    assert drive(offline, store, workers, group=group).exit_code == 0
    found = groups(offline, store)
    assert [len(members) for members in found] == sizes
    assert all(len({member[-1] for member in members}) == 1 for members in found)
    assert sorted(member for members in found for member in members) == sorted(
        f"{method}/{seed}" for method in METHODS for seed in (0, 1)
    )
    assert {len(each.attempts) for each in Store(store).records()[0].values()} == {1}


def test_a_member_that_fails_leaves_the_others_and_is_not_tried_again(
    offline: Path, store: Path, behave: Behave
) -> None:
    behave({"none/0": "diverged", "kd/0": "unsupported", "dkd/0": "adm"})
    assert drive(offline, store, workers=1, group=4).exit_code == 1
    found = [attempts(offline, store, method) for method in METHODS]
    assert found == [["diverged"], ["skipped"], ["error"], ["ok"]]
    assert [len(members) for members in groups(offline, store)] == [4, 4]


def test_a_member_has_its_record_while_the_others_are_trained(offline: Path, store: Path, behave: Behave) -> None:
    behave({"none/0": "diverged", "at/0": "hang"})
    with subprocess.Popen([*DRIVER, str(offline), str(store), "1", "4"], stdout=subprocess.DEVNULL) as runner:
        files = {method: Store(store).record_path(find(offline, method, 0).id) for method in METHODS}
        wait_for(lambda: all(files[method].exists() for method in ("none", "kd", "dkd")))
        assert runner.poll() is None and not files["at"].exists()
        runner.terminate()
        assert runner.wait(30) == 130
    found = [record(offline, store, method).status for method in METHODS]
    assert found == ["diverged", "ok", "ok", "interrupted"]


def test_a_killed_worker_costs_an_attempt_of_those_that_were_not_done(
    offline: Path, store: Path, behave: Behave
) -> None:
    behave({"kd/0": "sigkill-halfway"})
    assert drive(offline, store, workers=1, group=4).exit_code == 0
    assert attempts(offline, store, "none") == ["ok"]
    for method in ("kd", "dkd", "at"):
        assert attempts(offline, store, method) == ["error", "ok"]
        first = record(offline, store, method).attempts[0]
        assert str(first.reason).endswith("; trained together with 3 others") and "signal 9" in str(first.reason)
    assert groups(offline, store)[:3] == [["none/0", "kd/0"], ["kd/0", "dkd/0"], ["at/0"]]
    assert epochs(store, find(offline, "kd", 0).id) == [str(epoch) for epoch in range(12)]


def test_a_member_that_kills_every_worker_fails_alone(offline: Path, store: Path, behave: Behave) -> None:
    behave({"dkd/0": "sigkill"})
    assert drive(offline, store, workers=1, group=4).exit_code == 1
    found = record(offline, store, "dkd")
    assert found.status in ("error", "oom") and len(found.attempts) == 3
    assert "trained together" not in str(found.reason)
    assert [attempts(offline, store, method) for method in ("none", "kd")] == [["ok"]] * 2
    assert attempts(offline, store, "at") == ["error", "error", "ok"]  # the worker was not its own when it began
    assert groups(offline, store)[:4] == [["none/0", "kd/0", "dkd/0"], ["dkd/0"], ["dkd/0"], ["at/0"]]


def test_a_member_that_lacked_memory_is_tried_with_fewer_others_and_then_alone(
    offline: Path, store: Path, behave: Behave
) -> None:
    behave({"kd/0": "oom"})
    assert drive(offline, store, workers=1, group=4).exit_code == 1
    assert attempts(offline, store, "kd") == ["oom", "oom"]
    assert [attempts(offline, store, method) for method in ("none", "dkd", "at")] == [["ok"]] * 3
    assert record(offline, store, "kd").reason == "cannot allocate 4 GiB"


class Fragile(Executor):
    """Trains in this process; a job with the cell that is named ends badly as a whole.

    Args:
        cell: id of the cell; None: every job that holds several ends badly.
        ending: how.
    """

    name, about, takes_groups, blocking, slots = "fragile", "breaks", True, True, 1

    def __init__(self, cell: str | None, ending: Ending) -> None:
        self._cell, self._ending = cell, ending
        self.jobs: list[list[str]] = []

    @classmethod
    def from_options(cls, options: ExecutorOptions) -> Self:
        raise NotImplementedError

    def start(self, job: Job) -> Handle:
        cells = [member.folder.path.name for member in job.members]
        self.jobs.append(cells)
        handle = Handle()
        handle.job = job
        return handle

    def poll(self, handle: Handle) -> Ending | None:
        cells = [member.folder.path.name for member in handle.job.members]
        if self._cell in cells or (self._cell is None and len(cells) > 1):
            return self._ending
        for member in handle.job.members:
            run_cell(member.folder, train)
        return Ending(0, 1.0)

    def kill(self, handle: Handle) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is kept."""


def run_on(executor: Executor, suite: Path, store: Path, group: int) -> int:
    """Run a suite file on an executor; the exit status."""
    records = Store(store)
    plan = make_plan(expand(str(suite)), records, 1, room=Room(group))
    with (store / "out.txt").open("w") as out:
        display = PlainDisplay(plan, "x", Console(file=out))
        return Runner(plan, records, executor, RunOptions(store=store), display).run().exit_code


@pytest.mark.parametrize(
    ("ending", "status", "reason"),
    [
        (Ending(-9, 4.0, timed_out=True), "timeout", "ended after 4 s, the limit for one cell"),
        (Ending(-9, 4.0, out_of_memory=True), "oom", "ended by the system for lack of memory"),
        (Ending(3, 4.0), "error", "the worker ended with exit status 3 and left no outcome"),
    ],
    ids=["timeout", "memory", "exit"],
)
def test_a_group_that_ends_badly_is_halved_until_who_did_it_is_alone(
    offline: Path, store: Path, ending: Ending, status: str, reason: str
) -> None:
    guilty = find(offline, "dkd", 0).id
    executor = Fragile(guilty, ending)
    assert run_on(executor, offline, store, 4) == 1
    found = record(offline, store, "dkd")
    assert (found.status, found.reason) == (status, reason) and attempts(offline, store, "dkd") == [status] * 3
    assert [attempts(offline, store, method) for method in ("none", "kd")] == [[status, "ok"]] * 2
    assert attempts(offline, store, "at") == [status, status, "ok"]
    named = {cell.id: cell.cell.method_name for cell in expand(str(offline)).rows if cell.cell.seed == 0}
    tried = [[named[cell] for cell in job] for job in executor.jobs if job[0] in named]
    assert tried == [METHODS, ["none", "kd"], ["dkd", "at"], ["dkd"], ["at"]]


def test_large_groups_come_down_to_single_cells_whatever_that_takes(write_suite, store: Path) -> None:
    many = OFFLINE.replace("[none, kd, dkd, at]", "[none, kd, dkd, at, dist, cwd, wkd-l, fitnet]")
    suite, executor = write_suite(many.replace("[0, 1]", "[0]")), Fragile(None, Ending(-11, 1.0))
    assert run_on(executor, suite, store, 8) == 0
    assert Counter(len(job) for job in executor.jobs[1:]) == {8: 1, 4: 2, 2: 4, 1: 8}
    assert attempts(suite, store, "kd") == ["error"] * 3 + ["ok"]


def test_an_interrupted_group_keeps_what_each_member_has_and_is_resumed(
    offline: Path, store: Path, behave: Behave
) -> None:
    behave({"kd/0": "slow-step"})
    runner = subprocess.Popen([*DRIVER, str(offline), str(store), "1", "4"], stdout=subprocess.DEVNULL)
    wait_for(lambda: (store / "halfway.txt").exists())
    runner.send_signal(signal.SIGINT)
    assert runner.wait(20) == 130
    found = [record(offline, store, method).status for method in METHODS]
    assert found == ["ok", "interrupted", "interrupted", "interrupted"]
    checkpoints = {m: store / "work" / find(offline, m, 0).id / "checkpoint.pt" for m in METHODS[1:]}
    assert [json.loads(file.read_text())[0] for file in checkpoints.values()] == [6, 1, 1]
    behave({})
    assert drive(offline, store, workers=2, group=2).exit_code == 0
    assert [attempts(offline, store, method) for method in METHODS[1:]] == [["interrupted", "ok"]] * 3
    for method in METHODS:
        assert epochs(store, find(offline, method, 0).id) == [str(epoch) for epoch in range(12)]


def test_runs_of_groups_that_are_killed_end_as_cells_alone_do(
    write_suite: Callable[[str], Path], store: Path, tmp_path: Path
) -> None:
    suite, calm = write_suite(GROUPS), tmp_path / "calm"
    calm.mkdir()
    assert drive(suite, calm).exit_code == 0
    dice = random.Random(7)
    for group in ("4", "3"):
        runner = subprocess.Popen([*DRIVER, str(suite), str(store), "2", group], stdout=subprocess.DEVNULL)
        before = len(starts(store))
        wait_for(lambda before=before: len(starts(store)) > before)  # type: ignore[misc]
        time.sleep(dice.uniform(0.0, 0.4))
        runner.kill()
        assert runner.wait() == -signal.SIGKILL
    assert drive(suite, store, group=2).exit_code == 0
    assert scores(store) == scores(calm) and len(scores(store)) == 13
    trained = [line.split() for line in (store / "workers.txt").read_text().splitlines()]
    online = {cell.id for cell in expand(str(suite)).rows if cell.cell.regime == "online"}
    shared = Counter(worker for worker, _ in trained)
    assert {shared[worker] for worker, cell in trained if cell in online} == {1} and max(shared.values()) > 1


def test_members_at_which_another_runner_is_are_left_out(write_suite, store: Path) -> None:
    suite = write_suite(OFFLINE.replace("[0, 1]", "[0]"))
    lock = acquire(store, find(suite, "kd", 0).id)
    assert lock is not None
    with subprocess.Popen([*DRIVER, str(suite), str(store), "1", "4"], stdout=subprocess.DEVNULL) as runner:
        wait_for(lambda: Store(store).record_path(find(suite, "at", 0).id).exists())
        lock.release()
        assert runner.wait(60) == 0
    assert groups(suite, store) == [["none/0", "dkd/0", "at/0"], ["kd/0"]]


def test_two_runners_share_the_members_of_a_group(offline: Path, store: Path, behave: Behave) -> None:
    behave({"alone": "slow", "kd/1": "diverged"})
    command = [*DRIVER, str(offline), str(store), "2"]
    runners = [subprocess.Popen([*command, group], stdout=subprocess.DEVNULL) for group in ("4", "3")]
    assert [runner.wait(60) for runner in runners] == [1, 1]
    assert set(Counter(starts(store)).values()) == {1} and len(starts(store)) == 9


def test_the_log_of_a_member_says_where_its_worker_printed(offline: Path, store: Path, behave: Behave) -> None:
    behave({"kd/0": "bug"})
    drive(offline, store, workers=1, group=4)
    first, failed = find(offline, "none", 0).id, find(offline, "kd", 0).id
    told = adm("logs", failed, "--store", store).out
    assert f"trained together with {first}; what the worker prints: adm logs {first}" in told
    assert "ZeroDivisionError" in told and "Traceback" in adm("logs", first, "--store", store).out
