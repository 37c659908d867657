"""Suites on a real Slurm of two nodes, whose jobs are real processes; training is a short sum."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Answer, adm
from conftest import likelihoods, scores, starts
from drive import drive, find, record

from results.records.store import Store
from suites.run.submission import submissions
from tests.processes import wait_for
from tests.slurm.cluster import Cluster

pytest_plugins = ["tests.slurm.fixtures"]

Behave = Callable[[dict[str, str]], None]
ON_CLUSTER = ("--executor", "slurm-short", "--device", "cpu")


def run(suite: Path, store: Path, *more: object) -> Answer:
    return adm("run", suite, "--store", store, *ON_CLUSTER, *more)


def start(suite: Path, store: Path, *more: object) -> subprocess.Popen[str]:
    """The same in a process of its own."""
    words = ["run", suite, "--store", store, *ON_CLUSTER, *more]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.slurm.short", *map(str, words)], stdout=subprocess.PIPE, text=True
    )


def queue(cluster: Cluster) -> list[str]:
    """Every job that waits or runs, and its state."""
    return cluster.command("squeue", "-h", "-r", "-o", "%i %T").splitlines()


def until_idle(cluster: Cluster, seconds: float = 60.0) -> None:
    wait_for(lambda: not queue(cluster), seconds)


def tables(store: Path) -> list[str]:
    return [adm("report", "mine", "--store", store, "--format", form).out for form in ("md", "csv", "latex")]


def epochs(store: Path, cell: str) -> list[int]:
    """The epochs of a cell in the order in which they were trained."""
    lines = (store / "epochs.txt").read_text().split() if (store / "epochs.txt").exists() else []
    return [int(line.rpartition("-")[2]) for line in lines if line.startswith(cell)]


def test_records_and_tables_are_those_of_a_local_run(
    cluster: Cluster, suite: Path, store: Path, tmp_path: Path
) -> None:
    first = run(suite, store)
    assert (first.code, first.err) == (0, "") and "9 cells submitted in 9 jobs" in first.out
    assert len(submissions(store)[0].arrays) == 3  # an array has five jobs here, and students wait for their teacher
    second = run(suite, store)  # submits nothing, for every cell is in a job that waits or runs, or done
    assert "submitted" not in second.out and len(submissions(store)) == 1
    until_idle(cluster)
    calm = tmp_path / "calm"
    (tmp_path / "calm").mkdir()
    assert drive(suite, calm).exit_code == 0
    adm("run", suite, "--store", calm, "--executor", "inline", "--device", "cpu")  # writes the manifest
    assert scores(store) == scores(calm) and len(scores(store)) == 9
    assert tables(store) == tables(calm)
    assert set(Counter(starts(store)).values()) == {1}
    assert starts(store).index(find(suite, "none", 0, "alone").id) < starts(store).index(find(suite, "kd", 0).id)
    assert "nothing to do, 9 cells done" in run(suite, store).out


def test_a_preempted_job_keeps_a_checkpoint_and_goes_on_from_it(
    cluster: Cluster, suite: Path, store: Path, behave: Behave
) -> None:
    behave({"dml/0": "hold"})
    assert run(suite, store, "--only", "method=dml", "--only", "seed=0").code == 0
    wait_for(lambda: (store / "halfway.txt").exists(), 60)
    urgent = cluster.command(
        "sbatch", "--parsable", "--partition=high", "--nodes=2", "--exclusive", "--wrap=sleep 1", "--output=/dev/null"
    ).strip()
    wait_for(lambda: f"{urgent} RUNNING" in queue(cluster), 60)
    behave({})
    cell = find(suite, "dml", 0, "online").id
    stopped_after = max(epochs(store, cell))
    assert stopped_after < 11 and "its job" not in adm("status", suite, "--store", store).out
    assert "1 queued" in adm("status", suite, "--store", store).out
    until_idle(cluster)
    found = record(suite, store, "dml", regime="online")
    assert [attempt.status for attempt in found.attempts] == ["interrupted", "ok"]
    assert epochs(store, cell) == list(range(12)) and starts(store) == [cell, cell]


def test_a_cancelled_job_keeps_a_checkpoint_and_stays_cancelled(
    cluster: Cluster, suite: Path, store: Path, behave: Behave
) -> None:
    behave({"dml/0": "hold"})
    only = ("--only", "regime=online")
    waiting = start(suite, store, *only, "--cells-per-job", 4, "--wait")
    wait_for(lambda: (store / "halfway.txt").exists(), 60)
    assert re.search(r"1 running 2 queued .*on n[12]", " ".join(adm("status", suite, "--store", store).out.split()))
    cancelled = adm("cancel", suite, "--store", store)
    assert cancelled.code == 0 and re.search(r"mine: 1 job cancelled", cancelled.out)
    out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 1 and "to do" in out.splitlines()[-1]
    until_idle(cluster)
    cell = find(suite, "dml", 0, "online").id
    assert record(suite, store, "dml", regime="online").status == "interrupted" and starts(store).count(cell) == 1
    assert adm("cancel", suite, "--store", store).out == "mine: no jobs wait or run\n"
    behave({})
    assert run(suite, store, *only, "--cells-per-job", 4, "--wait").code == 0
    assert epochs(store, cell) == list(range(12)) and len(scores(store)) == 4


def test_a_node_without_power_loses_no_cell(cluster: Cluster, suite: Path, store: Path, behave: Behave) -> None:
    behave({"dml/0": "hold"})
    assert run(suite, store, "--only", "regime=online", "--cells-per-job", 2).code == 0
    wait_for(lambda: (store / "halfway.txt").exists(), 60)
    cell = find(suite, "dml", 0, "online").id
    where = re.search(r"on (n[12])", json.dumps(status_of(suite, store, cell)["reason"]))
    assert where is not None
    cluster.cut_power(where[1])
    cluster.power_on(where[1])
    behave({})
    until_idle(cluster)
    assert record(suite, store, "dml", regime="online").status == "ok" and len(scores(store)) == 4
    assert starts(store).count(cell) == 2 and len(epochs(store, cell)) <= 13


def status_of(suite: Path, store: Path, cell: str) -> dict[str, str]:
    content = adm("status", suite, "--store", store, "--json").json
    return next(row for row in (*content["artefacts"], *content["cells"]) if row["id"] == cell)


def test_students_of_a_teacher_that_fails_say_so(cluster: Cluster, suite: Path, store: Path, behave: Behave) -> None:
    behave({"alone": "bug"})
    failed = run(suite, store, "--only", "regime=offline", "--only", "seed=0", "--wait")
    assert failed.code == 1
    found = record(suite, store, "kd")
    assert (
        found.status == "error"
        and found.reason is not None
        and found.reason.startswith("teacher resnet20 failed: error: Zero")
    )
    behave({})
    assert run(suite, store, "--only", "regime=offline", "--only", "seed=0", "--wait").code == 0


def test_two_runs_at_once_train_every_cell_once_also_where_a_node_has_no_locks(
    cluster: Cluster, suite: Path, store: Path, behave: Behave, without_locks: str
) -> None:
    behave({"alone": "slow"})
    runs = [start(suite, store, "--cells-per-job", 2) for _ in range(2)]
    told = [each.communicate(timeout=60)[0] for each in runs]
    assert [each.returncode for each in runs] == [0, 0]
    assert sum("9 cells submitted" in each for each in told) == 1
    until_idle(cluster)
    assert set(Counter(starts(store)).values()) == {1} and len(scores(store)) == 9


def test_a_job_that_is_lost_is_submitted_again_and_at_last_given_up(
    cluster: Cluster, suite: Path, store: Path, tmp_path: Path
) -> None:
    header = tmp_path / "site.sh"
    header.write_text("#SBATCH --comment='of this site'\nexit 3  # a module that is missing on the nodes\n")
    only = ("--only", "method=dml", "--only", "seed=0")
    failed = run(suite, store, *only, "--slurm", header, "--wait")
    cell = find(suite, "dml", 0, "online").id
    assert failed.code == 1 and f"mine: {cell} was lost too often" in failed.err
    assert len(submissions(store)) == 3 and starts(store) == []
    reason = record(suite, store, "dml", regime="online").reason
    assert reason is not None and re.fullmatch(
        r"lost with 3 jobs one after the other, of the last: job \d+_0 FAILED on n[12]", reason
    )
    assert run(suite, store, *only, "--wait").code == 0 and starts(store) == [cell]
    assert "its job printed: " in adm("logs", cell, "--store", store).out
    assert Store(store).ids() == [cell] and os.path.isfile(store / "jobs" / submissions(store)[-1].name / "0-0.log")


def test_two_processes_of_a_job_train_a_cell_as_one_does(
    cluster: Cluster, shared_suite: Path, store: Path, tmp_path: Path
) -> None:
    """Really trained, by this project's own job."""
    by_two = adm("run", shared_suite, "--store", store, "--executor", "slurm", "--device", "cpu", "--gpus-per-cell", 2)
    assert (by_two.code, by_two.err) == (0, "") and "1 cell submitted in 1 job" in by_two.out
    until_idle(cluster, 240.0)
    assert adm("run", shared_suite, "--store", tmp_path / "one", "--device", "cpu", "--workers", 1).code == 0
    (shared, device), (alone, one) = likelihoods(shared_suite, store), likelihoods(shared_suite, tmp_path / "one")
    assert device == f"2 × {one}" and shared == pytest.approx(alone, rel=1e-3)


def test_doctor_says_on_which_node_locks_do_not_hold(cluster: Cluster, store: Path, without_locks: str) -> None:
    answer = adm("doctor", "--cluster", "--slurm", "--exclusive", "--store", store, "--json")
    nodes = {node["node"]: node for node in answer.json["nodes"].values()}
    assert nodes.keys() == {"n1", "n2"} and nodes["n1"]["packages"] == nodes["n2"]["packages"]
    assert nodes["n1"]["locks_of_submitter"] and not nodes[without_locks]["locks_of_submitter"]
    assert sum("is free there" in problem for problem in answer.json["problems"]) == 2 and answer.code == 1
    assert all("torch_sees" in node["devices"] for node in nodes.values())
