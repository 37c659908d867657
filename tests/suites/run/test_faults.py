"""What a run does about crashes, hangs, kills and full disks; workers are real processes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import SUITE, scores, starts
from drive import DRIVER, drive, find, record
from rich.console import Console
from suite_test_worker import train

from results.errors import RecordError
from results.records.store import Store
from suites.executors.inline import InlineExecutor
from suites.plan.plan import make_plan
from suites.run.display import PlainDisplay
from suites.run.runner import Runner
from suites.spec.code import code_of
from suites.spec.expand import expand
from suites.work.options import RunOptions
from tests.processes import alive, descendants, wait_for

Behave = Callable[[dict[str, str]], None]


def test_all_cells_are_trained_once_teacher_first_and_a_second_run_does_nothing(suite: Path, store: Path) -> None:
    assert drive(suite, store).exit_code == 0
    cells = expand(str(suite)).cells
    assert sorted(starts(store)) == sorted(cell.id for cell in cells) and len(cells) == 9
    kept = {p.name for p in (store / "work").glob("*/*") if p.suffix in (".pt", ".safetensors")}
    assert kept == {"weights.safetensors"}
    before = scores(store)
    assert drive(suite, store).exit_code == 0
    assert len(starts(store)) == 9 and scores(store) == before


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("diverged", "diverged", "loss of the student is not finite at step 3"),
        ("unsupported", "skipped", "maps are too small"),
        ("oom", "oom", "cannot allocate 4 GiB"),
        ("adm", "error", "data set 'x' is missing; get it there"),
        ("bug", "error", "ZeroDivisionError: division by zero"),
    ],
)
def test_exceptions_become_statuses_and_are_not_retried(
    suite: Path, store: Path, behave: Behave, kind: str, status: str, reason: str
) -> None:
    behave({"kd/0": kind})
    summary = drive(suite, store)
    found = record(suite, store, "kd")
    assert (found.status, found.reason, len(found.attempts)) == (status, reason, 1)
    assert summary.exit_code == (0 if status == "skipped" else 1)
    log = (store / "work" / found.id / "log.txt").read_text()
    assert ("Traceback" in log) == (kind in ("bug", "oom"))
    assert record(suite, store, "kd", 1).status == "ok"


def test_a_cell_that_cannot_run_is_settled_at_once_and_asks_for_no_teacher(
    write_suite: Callable[[str], Path], store: Path
) -> None:
    """What shows before networks are built needs no worker; the teacher is trained where another row wants it."""
    offline = SUITE[: SUITE.index("  - title: Online")] + SUITE[SUITE.index("  - title: Offline") :]
    suite = write_suite(offline.replace("[none, kd]", "[output]"))
    summary = drive(suite, store)
    assert summary.exit_code == 0 and starts(store) == [] and not list((store / "work").glob("*/weights*"))
    found = record(suite, store, "output")
    reason = "the method reads denoiser, this task predicts class_logits"
    assert (found.status, found.reason, len(found.attempts)) == ("skipped", reason, 1)
    assert found.code == code_of(found.cell)
    both = write_suite(offline.replace("[none, kd]", "[output, kd]"))
    assert drive(both, store).exit_code == 0
    trained = [cell.id for cell in expand(str(both)).cells if cell.label != "output"]
    begun = starts(store)
    assert begun[0] == trained[0] and sorted(begun) == sorted(trained)  # the teacher, then kd on two seeds at once
    assert len(trained) == 3


def test_a_worker_that_exits_without_an_outcome_leaves_a_record_and_its_log(
    suite: Path, store: Path, behave: Behave
) -> None:
    behave({"kd/0": "exit"})
    assert drive(suite, store).exit_code == 1
    found = record(suite, store, "kd")
    assert found.status == "error" and "exit status 7" in str(found.reason)
    assert [attempt.status for attempt in found.attempts] == ["error"] * 3  # tried three times: it may be the machine
    assert "last words" in (store / "work" / found.id / "log.txt").read_text()


def test_a_killed_worker_is_tried_again(suite: Path, store: Path, behave: Behave) -> None:
    behave({"kd/0": "sigkill-once", "kd/1": "sigkill"})
    assert drive(suite, store).exit_code == 1
    once, always = record(suite, store, "kd", 0), record(suite, store, "kd", 1)
    assert once.status == "ok" and [a.status for a in once.attempts] == ["error", "ok"]
    assert "killed by signal 9" in str(once.attempts[0].reason)
    assert always.status in ("error", "oom") and starts(store).count(always.id) == 3


def test_a_cell_that_is_tried_again_goes_on_where_it_was(suite: Path, store: Path, behave: Behave) -> None:
    behave({"kd/0": "sigkill-halfway"})
    assert drive(suite, store).exit_code == 0
    found = record(suite, store, "kd")
    assert [attempt.status for attempt in found.attempts] == ["error", "ok"]
    trained = [line for line in (store / "epochs.txt").read_text().split() if line.startswith(found.id)]
    assert trained == [f"{found.id}-{epoch}" for epoch in range(12)]


def test_failed_cells_are_tried_again_by_the_next_run_and_keep_their_history(
    suite: Path, store: Path, behave: Behave
) -> None:
    behave({"kd/0": "diverged"})
    drive(suite, store)
    behave({})
    assert drive(suite, store).exit_code == 0
    assert [a.status for a in record(suite, store, "kd").attempts] == ["diverged", "ok"]
    assert len(starts(store)) == 10


def test_a_cell_that_takes_too_long_is_ended_with_all_it_started(suite: Path, store: Path, behave: Behave) -> None:
    behave({"kd/0": "hang"})
    assert drive(suite, store, timeout=4.0).exit_code == 1
    found = record(suite, store, "kd")
    assert found.status == "timeout" and "the limit for one cell" in str(found.reason)
    assert not alive(int((store / "grandchild.txt").read_text()))


def test_a_teacher_that_fails_takes_its_cells_with_it_and_no_others(suite: Path, store: Path, behave: Behave) -> None:
    behave({"alone": "diverged"})
    assert drive(suite, store).exit_code == 1
    found = record(suite, store, "kd")
    assert found.status == "error"
    assert found.reason == "teacher resnet20 failed: diverged: loss of the student is not finite at step 3"
    assert record(suite, store, "dml", regime="online").status == "ok"
    behave({})
    assert drive(suite, store).exit_code == 0


def test_missing_teacher_weights_are_made_again_only_when_a_cell_needs_them(suite: Path, store: Path) -> None:
    drive(suite, store)
    teacher = find(suite, "none", 0, "alone")
    (store / "work" / teacher.id / "weights.safetensors").unlink()
    drive(suite, store)
    assert starts(store).count(teacher.id) == 1
    (store / "records" / f"{find(suite, 'kd', 0).id}.json").unlink()
    assert drive(suite, store).exit_code == 0
    assert starts(store).count(teacher.id) == 2


def test_fail_fast_starts_nothing_after_a_failure(suite: Path, store: Path, behave: Behave) -> None:
    behave({"alone": "diverged"})
    assert drive(suite, store, workers=1, fail_fast=True).exit_code == 1
    assert len(starts(store)) == 1


def test_an_outcome_that_breaks_the_records_rules_is_an_error(suite: Path, store: Path) -> None:
    records = Store(store)
    plan = make_plan(expand(str(suite)), records, 1)
    executor = InlineExecutor(train=lambda *_: {"scores": {"student": {"top1": float("nan")}}})
    with (store / "out.txt").open("w") as out:
        display = PlainDisplay(plan, "x", Console(file=out))
        summary = Runner(plan, records, executor, RunOptions(store=store), display).run()
    found = record(suite, store, "dml", regime="online")
    assert summary.exit_code == 1 and found.status == "error" and "outcome is not valid" in str(found.reason)


def test_a_killed_runner_takes_its_workers_with_it_and_the_rerun_ends_the_same(
    write_suite: Callable[[str], Path], store: Path, tmp_path: Path
) -> None:
    suite = write_suite(SUITE)
    calm = tmp_path / "calm"
    calm.mkdir()
    assert drive(suite, calm).exit_code == 0
    dice = random.Random(5)
    for _ in range(4):
        runner = subprocess.Popen([*DRIVER, str(suite), str(store), "2"], stdout=subprocess.DEVNULL)
        before = len(starts(store))
        wait_for(lambda before=before: len(starts(store)) > before)  # type: ignore[misc]
        time.sleep(dice.uniform(0.0, 0.2))
        runner.kill()
        assert runner.wait() == -signal.SIGKILL
    epochs = (store / "epochs.txt").read_text().split()
    assert 0 < len(epochs) < 9 * 12
    assert drive(suite, store).exit_code == 0
    assert scores(store) == scores(calm)


def test_a_killed_runner_leaves_neither_workers_nor_what_they_are_forked_from(
    suite: Path, store: Path, behave: Behave
) -> None:
    behave({"dml/0": "hang"})
    with subprocess.Popen([*DRIVER, str(suite), str(store), "2"], stdout=subprocess.DEVNULL) as runner:
        wait_for(lambda: (store / "grandchild.txt").exists() and (store / "grandchild.txt").read_text() != "")
        sleeper = int((store / "grandchild.txt").read_text())
        processes = set(descendants(runner.pid)) - {sleeper}
        runner.kill()
    assert len(processes) >= 2
    wait_for(lambda: not any(map(alive, processes)), 5.0)
    os.kill(sleeper, signal.SIGKILL)  # the test's own


def test_a_killed_nursery_costs_its_cells_an_attempt_and_no_more(suite: Path, store: Path, behave: Behave) -> None:
    behave({"dml": "slow"})
    with subprocess.Popen([*DRIVER, str(suite), str(store), "2"], stdout=subprocess.DEVNULL) as runner:
        slow = {find(suite, "dml", seed, "online").id for seed in (0, 1)}
        wait_for(lambda: bool(slow & set(starts(store))))
        nursery, *workers = descendants(runner.pid)
        assert workers
        os.kill(nursery, signal.SIGKILL)
        assert runner.wait(60) == 0
    records, _ = Store(store).records()
    attempts = [[attempt.status for attempt in each.attempts] for each in records.values()]
    assert len(attempts) == 9 and all(each[-1] == "ok" for each in attempts)
    assert sorted(map(len, attempts))[-2:] in ([1, 2], [2, 2])  # of two workers


def test_an_interrupted_run_exits_130_and_is_taken_up_again(suite: Path, store: Path, behave: Behave) -> None:
    behave({"dml/0": "hang"})
    runner = subprocess.Popen([*DRIVER, str(suite), str(store), "2"], stdout=subprocess.DEVNULL)
    wait_for(lambda: (store / "grandchild.txt").exists())
    runner.send_signal(signal.SIGTERM)
    assert runner.wait(20) == 130
    found = record(suite, store, "dml", regime="online")
    assert found.status == "interrupted" and not alive(int((store / "grandchild.txt").read_text()))
    behave({})
    assert drive(suite, store).exit_code == 0
    assert [a.status for a in record(suite, store, "dml", regime="online").attempts] == ["interrupted", "ok"]


@pytest.mark.parametrize("whom", ["runner", "everybody"])  # as a terminal does, and a cluster
def test_a_run_that_is_ended_lets_its_workers_keep_a_checkpoint(
    suite: Path, store: Path, behave: Behave, whom: str
) -> None:
    behave({"dml/0": "slow-step"})
    runner = subprocess.Popen([*DRIVER, str(suite), str(store), "2"], stdout=subprocess.DEVNULL)
    wait_for(lambda: (store / "halfway.txt").exists())
    cell = (store / "halfway.txt").read_text().strip()
    checkpoint = store / "work" / cell / "checkpoint.pt"
    before = json.loads(checkpoint.read_text())[0]
    for process in [runner.pid, *(descendants(runner.pid) if whom == "everybody" else ())]:
        with contextlib.suppress(ProcessLookupError):  # a worker of another cell may just have ended
            os.kill(process, signal.SIGTERM)
    assert runner.wait(20) == 130
    assert json.loads(checkpoint.read_text())[0] == before + 1  # of the step that was under way
    assert "with a checkpoint" in (store / "work" / cell / "log.txt").read_text()
    assert record(suite, store, "dml", regime="online").status == "interrupted"
    assert drive(suite, store).exit_code == 0
    trained = [line for line in (store / "epochs.txt").read_text().split() if line.startswith(cell)]
    assert trained == [f"{cell}-{epoch}" for epoch in range(12)]


def test_two_runners_on_one_store_train_every_cell_once(suite: Path, store: Path, behave: Behave) -> None:
    behave({"alone": "slow", "kd/1": "diverged"})
    runners = [subprocess.Popen([*DRIVER, str(suite), str(store), "2"], stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [runner.wait(60) for runner in runners] == [1, 1]
    assert set(Counter(starts(store)).values()) == {1} and len(starts(store)) == 9


def test_an_outcome_without_a_record_is_adopted(suite: Path, store: Path) -> None:
    drive(suite, store)
    cell = find(suite, "kd", 0).id
    kept = Store(store).read_record(cell)
    assert kept is not None
    (store / "records" / f"{cell}.json").unlink()
    outcome = '{"status": "ok", "reason": null, "seconds": 2.0, "scores": %s, "primary": %s}'
    content = outcome % (str(kept.scores).replace("'", '"'), kept.primary.model_dump_json() if kept.primary else "")
    (store / "work" / cell / "outcome.json").write_text(content)
    assert drive(suite, store).exit_code == 0
    assert len(starts(store)) == 9 and scores(store)[cell]


def test_a_record_that_cannot_be_written_keeps_the_outcome_for_the_next_run(suite: Path, store: Path) -> None:
    (store / "records").write_text("a file where the folder should be")
    with pytest.raises(RecordError, match="cannot be written"):
        drive(suite, store, workers=1)
    assert len(starts(store)) == 1
    (store / "records").unlink()
    assert drive(suite, store).exit_code == 0
    assert set(Counter(starts(store)).values()) == {1}


def test_a_damaged_record_is_trained_again_and_kept_aside(suite: Path, store: Path) -> None:
    drive(suite, store)
    for name, seed, regime in (("kd", 0, "offline"), ("none", 0, "alone")):
        Store(store).record_path(find(suite, name, seed, regime).id).write_text('{"cut off')
    before, teacher, cell = len(starts(store)), find(suite, "none", 0, "alone").id, find(suite, "kd", 0).id
    assert drive(suite, store).exit_code == 0
    assert starts(store)[before:] == [teacher, cell]  # the teacher's record is as good as none
    assert record(suite, store, "kd").status == record(suite, store, "none", regime="alone").status == "ok"
    assert (store / "records" / f"{cell}.json.unreadable").read_text() == '{"cut off'


def test_a_part_of_a_suite_has_its_teachers_trained_too(suite: Path, store: Path) -> None:
    whole = expand(str(suite))
    part = replace(whole, rows=(find(suite, "kd", 1),), artefacts=())
    records = Store(store)
    plan = make_plan(part, records, 1)
    executor = InlineExecutor(train=train)
    with (store / "out.txt").open("w") as out:
        display = PlainDisplay(plan, "x", Console(file=out))
        assert Runner(plan, records, executor, RunOptions(store=store), display).run().exit_code == 0
    assert starts(store) == [find(suite, "none", 0, "alone").id, find(suite, "kd", 1).id]
