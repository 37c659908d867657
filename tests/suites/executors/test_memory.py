"""Memory: what workers may take, kills for lack of it that the system counts, and what a worker's end is taken for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from suites.executors import memory
from suites.executors.base import Ending, Job, Member
from suites.executors.gpus import Gpu
from suites.executors.local import LocalExecutor
from suites.executors.memory import available_memory, memory_kills, worker_memory
from suites.executors.slots import Slot, slots
from suites.work.folder import WorkFolder
from tests.control_groups import lay
from tests.processes import wait_for


class Killed(LocalExecutor):
    """A process per cell that is killed."""

    worker = "killed_worker"

    def preloaded(self, job: Job, slot: Slot) -> tuple[str, ...]:
        return ()


@pytest.fixture
def end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, list[int]], Ending]]:
    """Runs a worker's text, with these counts of the system's when it starts and when it has ended."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    executor = Killed(slots("cpu", 1))

    def run(text: str, counts: list[int]) -> Ending:
        (tmp_path / "killed_worker.py").write_text(f"import os, signal\n{text}\n")
        told = iter(counts)
        monkeypatch.setattr("suites.executors.local.memory_kills", lambda: next(told))
        with (tmp_path / "lock").open("w") as lock:
            handle = executor.start(Job("classification", (Member(WorkFolder(tmp_path), lock.fileno()),)))
            endings: list[Ending | None] = []
            wait_for(lambda: endings.append(executor.poll(handle)) or endings[-1] is not None)
        assert endings[-1] is not None
        return endings[-1]

    yield run
    executor.close()


def test_a_killed_worker_was_out_of_memory_where_the_system_counted_a_kill(
    end: Callable[[str, list[int]], Ending],
) -> None:
    kill = "os.kill(os.getpid(), signal.SIGKILL)"
    assert end(kill, [3, 4]).out_of_memory
    assert not end(kill, [4, 4]).out_of_memory
    assert not end("raise SystemExit(1)", [3, 4]).out_of_memory


def test_the_count_holds_what_the_kernel_tells() -> None:
    vmstat = Path("/proc/vmstat")
    if not vmstat.exists():
        assert memory_kills() == 0
        return
    told = re.search(r"^oom_kill (\d+)$", vmstat.read_text(), re.MULTILINE)
    assert memory_kills() >= (int(told[1]) if told else 0)


def test_the_memory_that_a_machine_has_available_is_shared_by_its_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(tmp_path, monkeypatch)
    machine = available_memory()
    if not Path("/proc/meminfo").exists():
        assert machine is None and worker_memory("cpu", 2) is None
        return
    total = re.search(r"^MemTotal: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert machine is not None and total is not None and 0 < machine < int(total[1]) / 1024
    assert worker_memory("cpu", 2) == pytest.approx(0.9 * machine / 2, rel=0.2)


V1 = "3:cpu,cpuacct:/docker/c\n2:memory:/docker/c\n"
STAT = "anon 1\nfile 20971520\nfile_mapped 7"
STAT_V1 = "cache 1048576\ntotal_cache 20971520\ntotal_mapped_file 7"


@pytest.mark.parametrize(
    ("memberships", "files", "available"),
    [
        ("0::/\n", {"memory.max": "max", "memory.current": "9", "memory.stat": STAT}, 500.0),
        ("0::/\n", {"memory.max": "67108864", "memory.current": "62914560", "memory.stat": STAT}, 24.0),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "67108864", "a/memory.current": "62914560",
                       "a/memory.stat": STAT}, 24.0),
        ("0::/../seen/outside\n", {"memory.max": "67108864", "memory.current": "62914560"}, 4.0),
        ("0::/\n", {"memory.max": "67108864", "memory.current": "77108864"}, 0.0),
        (V1, {"memory/docker/c/memory.limit_in_bytes": "67108864", "memory/docker/c/memory.usage_in_bytes": "62914560",
              "memory/docker/c/memory.stat": STAT_V1}, 24.0),
        (V1, {"memory/memory.limit_in_bytes": "67108864", "memory/memory.usage_in_bytes": "62914560"}, 4.0),
        (V1, {"memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "62914560",
              "memory/docker/c/memory.limit_in_bytes": "9223372036854771712"}, 500.0),
        (V1, {"cpu,cpuacct/docker/c/memory.limit_in_bytes": "67108864"}, 500.0),
    ],
)  # fmt: skip
def test_control_groups_of_either_version_bound_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memberships: str, files: dict[str, str], available: float
) -> None:
    lay(tmp_path, monkeypatch, memberships, files)
    (tmp_path / "meminfo").write_text("MemTotal: 1024000 kB\nMemAvailable:  512000 kB\n")
    monkeypatch.setattr(memory, "_MACHINE", tmp_path / "meminfo")
    assert available_memory() == available  # what a group caches can be given up
    assert worker_memory("cpu", 2) == pytest.approx(0.9 * available / 2)


@pytest.mark.parametrize(
    ("memberships", "file"), [("0::/a\n", "a/memory.events"), (V1, "memory/docker/c/memory.oom_control")]
)
def test_the_count_of_kills_holds_those_of_its_control_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memberships: str, file: str
) -> None:
    lay(tmp_path, monkeypatch, memberships, {file: "under_oom 0\noom_kill 0"})
    before = memory_kills()
    lay(tmp_path, monkeypatch, memberships, {file: "under_oom 0\noom_kill 2"})
    assert memory_kills() >= before + 2


def test_workers_on_one_gpu_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Gpu("a", "large", 80 * 2**30), Gpu("b", "small", 24 * 2**30)]
    monkeypatch.setattr(memory, "gpus", lambda: found)
    assert worker_memory("auto", 2) == pytest.approx(0.9 * 24 * 1024)
    assert worker_memory("cuda", 3) == pytest.approx(0.9 * 12 * 1024)
    found.append(Gpu("c", "of the machine's memory", None))
    assert worker_memory("auto", 3) is None
