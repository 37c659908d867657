"""Suites on a real Ray of two nodes, whose tasks are real processes; training is a short sum."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import Answer, adm, refusal
from conftest import ROOT, likelihoods, scores, starts
from drive import drive, find, record

from adm_core.cpu import cores
from results.records.store import Store
from suites.executors.base import Ending, ExecutorOptions, Handle, Job, Member
from suites.executors.ray import RayExecutor, _Task
from suites.work.folder import WorkFolder
from tests.processes import alive, wait_for
from tests.ray.cluster import Cluster
from tests.ray.short import ShortRay
from tests.ray.telling import NVML, TellingRay

pytest_plugins = ["tests.ray.fixtures"]

Behave = Callable[[dict[str, str]], None]
Start = Callable[..., subprocess.Popen[str]]
ON_CLUSTER = ("--executor", "ray-short", "--device", "cpu")
LONG = 240.0
"""Seconds for what takes a few where nothing else runs."""
DML = ("--only", "method=dml", "--only", "seed=0")
KD = ("--only", "method=kd", "--only", "seed=0")


def run(suite: Path, store: Path, *more: object) -> Answer:
    return adm("run", suite, "--store", store, *ON_CLUSTER, *more)


@pytest.fixture
def start(suite: Path, store: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """The same in a process of its own, which does not outlive the test."""
    running = []

    def begin(*more: object) -> subprocess.Popen[str]:
        words = ["run", suite, "--store", store, *ON_CLUSTER, *more]
        command = [sys.executable, "-m", "tests.ray.short", *map(str, words)]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def tables(store: Path) -> list[str]:
    return [adm("report", "mine", "--store", store, "--format", form).out for form in ("md", "csv", "latex")]


def epochs(store: Path, cell: str) -> list[int]:
    """The epochs of a cell in the order in which they were trained."""
    lines = (store / "epochs.txt").read_text().split() if (store / "epochs.txt").exists() else []
    return [int(line.rpartition("-")[2]) for line in lines if line.startswith(cell)]


def worker_of(store: Path, cell: str) -> int:
    """The process that trains a cell, or was the last to do so."""
    return [int(line.split()[0]) for line in (store / "workers.txt").read_text().splitlines() if cell in line][-1]


def test_records_and_tables_are_those_of_a_local_run(
    cluster: Cluster, suite: Path, store: Path, tmp_path: Path
) -> None:
    first = run(suite, store, "--workers", 3, "--group", 2)
    assert (first.code, first.err) == (0, "") and "8 cells done" in first.out
    calm = tmp_path / "calm"
    calm.mkdir()
    assert drive(suite, calm).exit_code == 0
    adm("run", suite, "--store", calm, "--executor", "inline", "--device", "cpu")  # writes the manifest
    assert scores(store) == scores(calm) and len(scores(store)) == 9
    assert tables(store) == tables(calm)
    assert set(Counter(starts(store)).values()) == {1}
    assert starts(store).index(find(suite, "none", 0, "alone").id) < starts(store).index(find(suite, "kd", 0).id)
    together = [worker_of(store, find(suite, method, 0).id) for method in ("none", "kd")]
    assert together[0] == together[1]  # one worker, of a group of two cells
    assert "nothing to do, 8 cells done" in run(suite, store).out


def test_a_killed_worker_goes_on_where_it_was_and_one_that_takes_too_long_is_ended(
    cluster: Cluster, suite: Path, store: Path, behave: Behave
) -> None:
    behave({"kd/0": "sigkill-halfway", "dml/0": "hang"})
    done = run(suite, store, *KD, *DML, "--workers", 2, "--timeout", 15)
    killed, late = record(suite, store, "kd"), record(suite, store, "dml", regime="online")
    assert [attempt.status for attempt in killed.attempts] == ["error", "ok"]
    assert "killed by signal 9" in str(killed.attempts[0].reason) and epochs(store, killed.id) == list(range(12))
    assert late.status == "timeout" and "the limit for one cell" in str(late.reason) and done.code == 1
    wait_for(lambda: not alive(int((store / "grandchild.txt").read_text())), 5.0)


def test_students_of_a_teacher_that_fails_say_so_and_nothing_starts_after_a_failure(
    cluster: Cluster, suite: Path, store: Path, behave: Behave
) -> None:
    behave({"alone": "bug"})
    assert run(suite, store, "--workers", 1, "--fail-fast").code == 1
    assert len(starts(store)) == 1
    assert run(suite, store, *KD).code == 1
    reason = record(suite, store, "kd").reason
    assert reason is not None and reason.startswith("teacher resnet20 failed: error: ZeroDivisionError")
    behave({})
    assert run(suite, store, *KD).code == 0


def test_a_run_that_is_interrupted_keeps_checkpoints_and_takes_back_what_waits(
    cluster: Cluster, suite: Path, store: Path, behave: Behave, start: Start
) -> None:
    behave({"dml": "hold", "none": "hold", "alone": "hold"})
    first, halfway = start("--workers", 3), store / "halfway.txt"  # for one of them no CPU is free
    wait_for(lambda: halfway.exists() and len(halfway.read_text().split()) == 2, LONG)
    first.send_signal(signal.SIGINT)
    assert first.wait(LONG) == 130
    held = halfway.read_text().split()
    assert sorted(starts(store)) == sorted(held)
    assert all((store / "work" / cell / "checkpoint.pt").exists() for cell in held)
    behave({})
    assert run(suite, store).code == 0
    for cell in held:
        found = Store(store).read_record(cell)
        assert found is not None and [attempt.status for attempt in found.attempts] == ["interrupted", "ok"]
        assert epochs(store, cell) == list(range(12))


def job_in(folder: Path) -> Job:
    """A job of one cell, of which its worker reads nothing."""
    folder.mkdir(exist_ok=True)
    return Job("classification", (Member(WorkFolder(folder), 0),))


def ending_of(executor: RayExecutor, handle: Handle) -> Ending:
    end = time.monotonic() + LONG
    while (ending := executor.poll(handle)) is None:
        assert time.monotonic() < end, "it did not end in time"
        time.sleep(0.05)
    return ending


def test_a_cell_claims_a_gpu_or_a_share_of_its_memory_and_threads(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pynvml.py").write_text(NVML)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    assert TellingRay.from_options(ExecutorOptions()).slots == 2
    executor = TellingRay.from_options(ExecutorOptions(per_gpu=3))
    assert executor.slots == 6
    handle = executor.start(job_in(tmp_path / "cell"))
    assert ending_of(executor, handle).code == 0
    told = WorkFolder(tmp_path / "cell").outcome()
    share = str(max(cores() // 3, 1))
    memory = "per_process_memory_fraction:0.3000"
    assert told == {"CUDA_VISIBLE_DEVICES": "0", "OMP_NUM_THREADS": share, "PYTORCH_ALLOC_CONF": memory}


def test_neither_a_killed_driver_nor_a_killed_job_leaves_what_trains(
    cluster: Cluster, suite: Path, store: Path, behave: Behave, start: Start
) -> None:
    behave({"dml/0": "hold"})
    first, cell = start(*DML), find(suite, "dml", 0, "online").id
    wait_for(lambda: (store / "halfway.txt").exists(), LONG)
    first.kill()  # what it has written is what the job needs
    first.wait(10)
    wait_for(lambda: not alive(worker_of(store, cell)), 30)
    executor = ShortRay("cpu", 1)
    handle = executor.start(Job("classification", (Member(WorkFolder.of(store, cell), 0),)))
    wait_for(lambda: starts(store) == [cell, cell], LONG)
    executor.kill(handle)
    ending = ending_of(executor, handle)
    assert ending.stopped and ending.code is None
    wait_for(lambda: not alive(worker_of(store, cell)), 30)


def test_an_outcome_that_a_file_system_shows_late_is_waited_for(cluster: Cluster, tmp_path: Path) -> None:
    import ray

    executor, job = ShortRay("cpu", 1), job_in(tmp_path / "cell")
    handle = _Task(job, ray.put(Ending(0, 1.5)), time.monotonic())
    assert executor.poll(handle) is None
    job.members[0].folder.conclude({"status": "ok"})
    assert executor.poll(handle) == Ending(0, 1.5)
    crashed = _Task(job_in(tmp_path / "other"), ray.put(Ending(1, 1.5)), time.monotonic())
    assert executor.poll(crashed) == Ending(1, 1.5)


def test_two_processes_of_a_task_train_a_cell_as_one_does(
    short_folder: Path, shared_suite: Path, store: Path, tmp_path: Path
) -> None:
    """Really trained, on a cluster of its own whose one node has a CPU for each of them."""
    wide = Cluster(short_folder, nodes=1, cpus=2)
    try:
        command = [sys.executable, "-m", "adm_bench", "run", shared_suite, "--store", store, "--executor", "ray"]
        environment = {**os.environ, "RAY_ADDRESS": wide.address}
        options = ["--device", "cpu", "--gpus-per-cell", "2"]
        done = subprocess.run(
            [*map(str, command), *options], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=LONG
        )
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        wide.down()
    assert adm("run", shared_suite, "--store", tmp_path / "one", "--device", "cpu", "--workers", 1).code == 0
    (shared, device), (alone, one) = likelihoods(shared_suite, store), likelihoods(shared_suite, tmp_path / "one")
    assert device == f"2 × {one}" and shared == pytest.approx(alone, rel=1e-3)


def test_what_the_cluster_cannot_do_is_refused(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    command = ("run", "smoke", "--executor", "ray", "--store", tmp_path)
    told = refusal(*command, "--per-gpu", 2, "--device", "cpu")
    assert told == "--per-gpu 2: cells are trained on the cluster's CPUs; use --workers"
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
    assert "the cluster has no GPU ('ray status' shows what it has)" in refusal(*command, "--device", "cuda")
    assert RayExecutor.from_options(ExecutorOptions("cuda", workers=3)).slots == 3  # they wait for nodes to come
    assert RayExecutor.from_options(ExecutorOptions()).slots == 4
    told = refusal(*command, "--gpus-per-cell", 3, "--device", "cpu")
    assert "the cluster has no node with 3 CPUs" in told or "accumulate is no multiple of 3" in told
    nodes = [{"Alive": True, "Resources": {"CPU": 5.0}}, {"Alive": True, "Resources": {"CPU": 3.0}}]
    monkeypatch.setattr(ray, "nodes", lambda: [*nodes, {"Alive": False, "Resources": {"CPU": 8.0}}])
    assert RayExecutor.from_options(ExecutorOptions("cpu", gpus_per_cell=2)).slots == 3  # a job is on one node


def test_without_the_package_or_a_cluster_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("run", "smoke", "--executor", "ray", "--store", tmp_path)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "ray", None)
        assert refusal(*command) == "--executor ray needs the package ray: pip install 'adm-bench[ray]'"
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    told = refusal(*command)
    assert "no Ray cluster can be joined at RAY_ADDRESS=127.0.0.1:1: [Errno 111] Connection refused" in told
    assert "'ray start --head'" in told


def test_a_node_without_power_loses_no_cell(
    cluster: Cluster, suite: Path, store: Path, behave: Behave, start: Start
) -> None:
    behave({"dml/0": "hold"})
    first, cell = start(*DML), find(suite, "dml", 0, "online").id
    wait_for(lambda: (store / "halfway.txt").exists(), LONG)
    node = cluster.node_of(worker_of(store, cell))
    cluster.cut_power(node)
    behave({})
    out, _ = first.communicate(timeout=LONG)
    assert first.returncode == 0, out
    found = record(suite, store, "dml", regime="online")
    assert [attempt.status for attempt in found.attempts] == ["error", "ok"]
    assert "lost with its node" in str(found.attempts[0].reason)
    assert starts(store) == [cell, cell] and epochs(store, cell) == list(range(12))
    cluster.power_on(node)
