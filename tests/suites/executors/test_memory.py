"""Kills for lack of memory: what the system counts, and what a worker's end is taken for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from suites.executors.base import Ending, Job, Member
from suites.executors.local import LocalExecutor
from suites.executors.memory import memory_kills
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
