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


def test_the_memory_of_a_machine_or_of_its_control_group_is_shared_by_its_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_own_group", lambda: tmp_path)
    machine = available_memory()
    if not Path("/proc/meminfo").exists():
        assert machine is None and worker_memory("cpu", 2) is None
        return
    total = re.search(r"^MemTotal: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert machine is not None and total is not None and 0 < machine < int(total[1]) / 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text(f"{60 * 2**20}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\nfile {20 * 2**20}\nfile_mapped 7\n")
    assert available_memory() == pytest.approx(machine, rel=0.2)
    (tmp_path / "memory.max").write_text(f"{64 * 2**20}\n")
    assert available_memory() == 24.0  # what it caches can be given up
    assert worker_memory("cpu", 2) == pytest.approx(0.9 * 12.0)


def test_workers_on_one_gpu_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Gpu("a", "large", 80 * 2**30), Gpu("b", "small", 24 * 2**30)]
    monkeypatch.setattr(memory, "gpus", lambda: found)
    assert worker_memory("auto", 2) == pytest.approx(0.9 * 24 * 1024)
    assert worker_memory("cuda", 3) == pytest.approx(0.9 * 12 * 1024)
    found.append(Gpu("c", "of the machine's memory", None))
    assert worker_memory("auto", 3) is None
