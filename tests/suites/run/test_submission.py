"""Submitting without a cluster: a queue that keeps what it is given, and jobs that are run by hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest
from command_line import adm, refusal
from conftest import starts
from drive import find, record

from adm_core.errors import AdmError
from results.records.store import Store
from suites.executors import registry
from suites.executors.base import Queue, QueuedJob
from suites.executors.slurm import Slurm
from suites.plan.plan import make_plan
from suites.plan.selection import select
from suites.run.ledger import Ledger
from suites.run.submission import Journal, chunks, submissions
from suites.run.submit import Submitter, Terms
from suites.run.verdict import Verdict
from suites.spec.expand import expand
from suites.work.options import RunOptions

Behave = Callable[[dict[str, str]], None]


class Line(Queue):
    """Keeps what is submitted; tests say what becomes of it."""

    name = "line"
    about = "for tests"
    waiting: dict[tuple[str, int], QueuedJob]
    after: dict[str, str | None]
    refuses_after = 99

    @classmethod
    def from_options(cls, options: str | None) -> Self:
        return cls()

    def largest(self) -> int:
        return 2

    def submit(self, name: str, command: Sequence[str], count: int, log: str, after: str | None = None) -> list[str]:
        if len(self.waiting) >= self.refuses_after:
            raise AdmError("line: it is full")
        ids = [f"{name}/{number}" for number in range(count)]
        self.waiting.update({(name, number): QueuedJob(id, "PENDING", False) for number, id in enumerate(ids)})
        self.after[name] = after
        return ids

    def jobs(self) -> Mapping[tuple[str, int], QueuedJob]:
        return self.waiting

    def cancel(self, ids: Iterable[str]) -> None:
        self.end(lambda job: job.id in ids, state="CANCELLED", cancelled=True)

    def requeue(self) -> None:
        raise NotImplementedError

    @classmethod
    def end(cls, which: Callable[[QueuedJob], bool], state: str, cancelled: bool = False) -> None:
        for key, job in cls.waiting.items():
            if which(job):
                cls.waiting[key] = replace(job, state=state, ended=True, cancelled=cancelled)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Line]]:
    """The queue, empty."""
    monkeypatch.setitem(registry._known, Line.name, Line)
    monkeypatch.setattr(Line, "waiting", {}, raising=False)
    monkeypatch.setattr(Line, "after", {}, raising=False)
    yield Line


def run(suite: Path, store: Path, *more: object) -> str:
    answer = adm("run", suite, "--store", store, "--executor", "line", "--device", "cpu", *more)
    assert (answer.code, answer.err) == (0, ""), answer
    return answer.out


def job(store: Path, array: int, number: int) -> str:
    """Run a job of the last submission by hand, with the test worker."""
    words = [str(store), submissions(store)[-1].name, str(array), str(number)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.slurm.short", *words], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_lists_are_cut_into_arrays_that_do_not_cross_what_they_wait_for() -> None:
    assert chunks([1, 7, 3], 5) == [0, 1, 6, 8]
    assert chunks([4], 4) == [0] and chunks([], 4) == []


def test_students_wait_for_their_teachers_job_and_groups_stand_in_one_list(
    suite: Path, store: Path, line: type[Line]
) -> None:
    run(suite, store, "--group", 2)
    (made,) = submissions(store)
    teacher = find(suite, "none", 0, "alone").id
    assert made.lists[0] == (teacher,) and made.arrays == (0, 1, 3)
    assert {len(cells) for cells in made.lists[1:]} == {2}
    offline = [{find(suite, method, seed).id for method in ("none", "kd")} for seed in (0, 1)]
    assert [set(cells) for cells in made.lists[3:]] == offline
    first, _, last = (made.job_name(array) for array in made.arrays)
    assert line.after == {first: None, made.job_name(1): None, last: f"{first}/0"}


def test_only_what_no_live_job_has_is_submitted(suite: Path, store: Path, line: type[Line]) -> None:
    run(suite, store, "--only", "seed=0", "--only", "regime=offline")
    assert "6 cells submitted" in run(
        suite, store
    )  # without the teacher, whose job students of seed 1 wait for as well
    first, second = submissions(store)
    assert {cell for cells in first.lists for cell in cells}.isdisjoint(
        cell for cells in second.lists for cell in cells
    )
    assert line.after[second.job_name(second.arrays[-1])] == f"{first.job_name(0)}/0"
    assert "nothing to submit" in run(suite, store)
    assert adm("status", suite, "--store", store).out.split()[3:5] == ["9", "queued"]
    line.end(lambda _: True, "NODE_FAIL")
    status = adm("status", suite, "--store", store, "--json").json
    assert {row["state"] for row in (*status["artefacts"], *status["cells"])} == {"lost"}
    assert "9 cells submitted" in run(suite, store)
    assert adm("cancel", suite, "--store", store).out.startswith("mine: 9 jobs cancelled")
    assert "9 to do" in adm("status", suite, "--store", store).out


def test_what_a_queue_refuses_is_not_taken_for_submitted(suite: Path, store: Path, line: type[Line]) -> None:
    line.refuses_after = 3
    answer = adm("run", suite, "--store", store, "--executor", "line", "--device", "cpu")
    assert (answer.code, answer.err) == (2, "error: line: it is full\n")
    line.refuses_after = 99
    (kept,) = submissions(store)
    assert len(kept.lists) == len(line.waiting) == 3 and kept.arrays == (0, 1)
    assert "6 cells submitted" in run(suite, store)


def test_a_job_trains_its_list_and_one_that_is_started_again_what_is_left(
    suite: Path, store: Path, line: type[Line], behave: Behave
) -> None:
    behave({"dml/0": "bug"})
    run(suite, store, "--only", "regime=online", "--cells-per-job", 4)
    assert job(store, 0, 0).count("start ") == 4
    assert record(suite, store, "dml", regime="online").status == "error"
    assert "nothing to do" in job(store, 0, 0) and len(starts(store)) == 4  # what failed is not tried again by itself
    line.end(lambda _: True, "COMPLETED")
    behave({})
    assert "1 cell submitted" in run(suite, store, "--only", "regime=online")
    job(store, 0, 0)
    assert [a.status for a in record(suite, store, "dml", regime="online").attempts] == ["error", "ok"]


def test_a_job_leaves_students_whose_teacher_was_not_brought_to_an_end(
    suite: Path, store: Path, line: type[Line]
) -> None:
    run(suite, store, "--only", "regime=offline", "--only", "seed=0", "--cells-per-job", 2)
    assert job(store, 1, 0).count("left ") == 2 and starts(store) == [] and Store(store).ids() == []
    line.end(lambda _: True, "COMPLETED")
    assert "lost" in adm("status", suite, "--store", store).out  # the teacher is, its students are to be done again
    assert "3 cells submitted" in run(suite, store, "--only", "regime=offline", "--only", "seed=0")


def test_a_cell_that_takes_its_node_with_it_again_and_again_is_given_up(
    suite: Path, store: Path, line: type[Line]
) -> None:
    run(suite, store, "--only", "regime=online", "--only", "seed=0", "--cells-per-job", 2)
    (made,) = submissions(store)
    deadly, other = find(suite, "dml", 0, "online").id, find(suite, "none", 0, "online").id
    journal = Journal(store, made.name, 0)
    for _ in range(3):
        journal.add("begun", deadly)
    assert journal.in_vain(deadly, stamp=0) == 3 and journal.in_vain(deadly, stamp=7) == 0
    job(store, 0, 0)
    assert starts(store) == [other]
    found = record(suite, store, "dml", regime="online")
    assert found.status == "error" and "ended 3 times without notice" in str(found.reason)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--executor", "line", "--fail-fast"), "--fail-fast: --executor line submits all cells at once"),
        (("--executor", "line", "--tracker", "wandb"), "--tracker: curves are mirrored by a run that stays"),
        (("--executor", "inline", "--wait"), "--wait: it is for clusters (--executor slurm), and this is --exec"),
        (("--slurm", "--partition=gpu"), "--slurm: it is for clusters"),
    ],
)  # fmt: skip
def test_options_of_the_other_kind_of_executor_are_refused(
    suite: Path, store: Path, line: type[Line], words: tuple[str, ...], told: str
) -> None:
    assert refusal("run", suite, "--store", store, "--device", "cpu", *words).startswith(told)


def test_options_that_say_which_jobs_there_are_are_not_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sbatch").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    header = tmp_path / "site.sh"
    header.write_text("#SBATCH --partition=gpu\n#SBATCH -J mine  # a name\nmodule load cuda\n")
    for given, told in (
        ("--array=0-3", "--array is set by adm"),
        (str(header), "-J is set by adm"),
        ("site", "No such"),
    ):
        with pytest.raises(AdmError, match=told):
            Slurm.from_options(given)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(AdmError, match="no 'sbatch' on the path; run this on a login node"):
        Slurm.from_options(None)


def test_a_tuning_does_not_go_to_a_cluster(store: Path, line: type[Line]) -> None:
    assert "'adm run' submits to a cluster" in refusal(
        "tune", "quick", "--trials", 2, "--store", store, "--executor", "line"
    )


def test_a_run_that_stays_submits_again_what_was_interrupted_or_lost_and_nothing_that_failed_or_was_cancelled(
    suite: Path, store: Path, line: type[Line]
) -> None:
    expansion, records = expand(str(suite)), Store(store)
    selection = select(expansion, ["regime=online"])
    submitter = Submitter("mine", records, Line(), RunOptions(device="cpu", store=store), Terms())

    def submit() -> set[str]:
        made = submitter.submit(lambda elsewhere: make_plan(expansion, records, 1, selection, elsewhere=elsewhere))
        return set(made.cells)

    cells = [find(suite, method, seed, "online") for method in ("none", "dml") for seed in (0, 1)]
    interrupted, failed, lost, cancelled = (cell.id for cell in cells)
    assert submit() == {interrupted, failed, lost, cancelled} and submit() == set()
    ledger = Ledger(make_plan(expansion, records, 1, selection), records)
    for cell, status in zip(cells, ("interrupted", "error"), strict=False):
        ledger.write(cell, Verdict(status, "as said"), None, 1.0)
    (first,) = submissions(store)
    names = {cell: key for index, key in first.jobs() for cell in first.lists[index]}
    line.end(lambda job: job.id != line.waiting[names[cancelled]].id, "TIMEOUT")
    Line().cancel([line.waiting[names[cancelled]].id])
    assert submit() == {interrupted, lost}
    line.end(lambda _: True, "NODE_FAIL")
    assert submit() == {interrupted, lost}
    line.end(lambda _: True, "NODE_FAIL")
    assert lost not in submit()
    found = records.read_record(lost)
    assert found is not None and found.status == "error" and "NODE_FAIL" in str(found.reason)
