"""Workers forked from a nursery live and end as processes of their own do; what they are compared with is those.

That they train the same is tested in ``tests/suites/cli/test_cli_run.py``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from conftest import ROOT

from suites.executors.nursery import Nursery
from suites.executors.slots import Slot, slots
from suites.plan.groups import LARGEST
from suites.work.locks import acquire, held
from tests.processes import alive, wait_for

Start = Callable[..., int]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a worker's text where it can be imported and returns the module's name."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))

    def write(text: str) -> str:
        (tmp_path / "scripted.py").write_text("import os, signal, sys, time\n" + text)
        return "scripted"

    return write


@pytest.fixture
def nursery(tmp_path: Path, script: Callable[[str], str]) -> Iterator[Nursery]:
    """A nursery that has imported ``colorsys``, and failed to import a module that does not exist."""
    with (tmp_path / "nursery.txt").open("ab") as log:
        opened = Nursery(["colorsys", "no_such_module"], {"PLACE": "nursery"}, log)
    yield opened
    opened.close()


@pytest.fixture
def start(nursery: Nursery, tmp_path: Path) -> Start:
    """Starts a module in the nursery, with ``<name>.txt`` for its log."""

    def begin(module: str, *arguments: str, name: str = "log", locks: Sequence[int] = (), **environment: str) -> int:
        with (tmp_path / f"{name}.txt").open("ab") as log:
            return nursery.start(module, arguments, environment, log, locks)

    return begin


def ending(nursery: Nursery, worker: int) -> int:
    """How a worker ends by itself."""
    wait_for(lambda: nursery.has_ended(worker))
    return nursery.end(worker)


@pytest.mark.parametrize(
    "text",
    [
        "print('done')",
        "sys.exit(3)",
        "sys.exit('last words')",
        "raise ValueError('of no use')",
        "os.kill(os.getpid(), signal.SIGTERM)",
        "raise KeyboardInterrupt",
        "import atexit; atexit.register(print, 'at the end'); sys.exit(4)",
        "print(__name__, sys.modules['__main__'].__spec__.name, os.path.basename(sys.argv[0]), sys.argv[1])",
        "print(sys.stdin.read())",
        "os._exit(7)",
    ],
)
def test_a_worker_ends_and_prints_as_a_module_that_is_run(
    nursery: Nursery, start: Start, script: Callable[[str], str], tmp_path: Path, text: str
) -> None:
    module = script(text)
    code = ending(nursery, start(module, "argument"))
    run = subprocess.run([sys.executable, "-P", "-m", module, "argument"], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
    assert code == run.returncode
    printed, expected = (tmp_path / "log.txt").read_text(), run.stdout
    if "Traceback" in expected:
        printed, expected = printed.splitlines()[-1], expected.splitlines()[-1]
    assert printed == expected


def test_a_worker_has_the_imports_and_its_own_group_environment_and_log(
    nursery: Nursery, start: Start, script: Callable[[str], str], tmp_path: Path
) -> None:
    told = "import json; print(json.dumps([sys.argv[1:], os.getpid() == os.getpgrp(), os.environ['PLACE'], {}]))"
    module = script(told.format("'colorsys' in sys.modules") + "\nos.environ['PLACE'] = 'changed'")
    for name, environment, place in (("a", {"PLACE": "a"}, "a"), ("b", {}, "nursery")):
        assert ending(nursery, start(module, name, name=name, **environment)) == 0
        arguments, leads, where, imported = json.loads((tmp_path / f"{name}.txt").read_text())
        assert (arguments[:2], leads, where, imported) == ([name, "--parent"], True, place, True)
        assert alive(int(arguments[2]))  # the nursery


def test_locks_are_held_by_their_worker_alone_and_as_long_as_that_lives(
    nursery: Nursery, start: Start, script: Callable[[str], str], tmp_path: Path
) -> None:
    module = script("time.sleep(600)")
    workers = []
    cells = ["a"], [f"b{number}" for number in range(LARGEST)]
    for own in cells:
        locks = [lock for cell in own if (lock := acquire(tmp_path, cell)) is not None]
        workers.append(start(module, locks=[lock.descriptor for lock in locks]))
        for lock in locks:
            lock.release()
    assert held(tmp_path, [*cells[0], *cells[1]]) == {"a", *cells[1]} and not nursery.has_ended(workers[0])
    assert nursery.end(workers[0]) == -signal.SIGKILL
    assert held(tmp_path, [*cells[0], *cells[1]]) == {*cells[1]} and len(cells[1]) == LARGEST
    assert nursery.end(workers[1]) == -signal.SIGKILL
    assert held(tmp_path, [*cells[0], *cells[1]]) == set()


def test_what_a_worker_started_ends_with_it(
    nursery: Nursery, start: Start, script: Callable[[str], str], tmp_path: Path
) -> None:
    sleeper = "import subprocess; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid)"
    assert ending(nursery, start(script(sleeper))) == 0
    wait_for(lambda: not alive(int((tmp_path / "log.txt").read_text())), 5.0)


def test_a_lost_nursery_takes_its_workers_with_it_and_says_so(
    nursery: Nursery, start: Start, script: Callable[[str], str], tmp_path: Path
) -> None:
    worker = start(script("print(sys.argv[-1], flush=True); from suites.worker.parentage import end_with\n"
                          "end_with(int(sys.argv[-1])); print('held', flush=True); time.sleep(600)"))  # fmt: skip
    wait_for(lambda: "held" in (tmp_path / "log.txt").read_text())
    assert not nursery.has_ended(worker) and not nursery.lost
    os.kill(int((tmp_path / "log.txt").read_text().split()[0]), signal.SIGKILL)
    wait_for(lambda: nursery.has_ended(worker) and not alive(worker))
    assert nursery.lost and nursery.end(worker) == -signal.SIGKILL
    with pytest.raises(OSError, match="the process that starts workers has ended"):
        start("scripted")


def test_a_nursery_that_does_not_answer_counts_as_ended(
    tmp_path: Path, script: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suites.executors.nursery._PATIENCE", 0.5)
    with (tmp_path / "log.txt").open("ab") as log:
        nursery = Nursery([], {}, log)
        worker = nursery.start(script("print(sys.argv[-1], flush=True); time.sleep(600)"), [], {}, log, [])
    wait_for(lambda: bool((tmp_path / "log.txt").read_text()))
    assert not nursery.has_ended(worker)
    os.kill(int((tmp_path / "log.txt").read_text()), signal.SIGSTOP)
    assert nursery.has_ended(worker) and nursery.lost
    assert nursery.end(worker) == -signal.SIGKILL
    wait_for(lambda: not alive(worker))


def test_a_nursery_is_ready_once_it_has_imported(tmp_path: Path, script: Callable[[str], str]) -> None:
    module = script("while not os.path.exists(os.environ['GO']): time.sleep(0.01)")
    with (tmp_path / "log.txt").open("ab") as log:
        nursery = Nursery([module], {"GO": str(tmp_path / "go")}, log)
    assert not nursery.ready
    (tmp_path / "go").touch()
    wait_for(lambda: nursery.ready)
    nursery.close()


def test_a_nursery_that_ends_while_importing_says_so(tmp_path: Path, script: Callable[[str], str]) -> None:
    with (tmp_path / "log.txt").open("ab") as log:
        nursery = Nursery([script("os._exit(3)")], {}, log)
    wait_for(lambda: nursery.lost)
    with pytest.raises(OSError, match="the process that starts workers has ended"):
        assert nursery.ready


def test_only_slots_without_gpus_are_taken_for_such() -> None:
    assert not slots("cpu", 1)[0].on_gpu
    assert Slot("GPU 0", {"CUDA_VISIBLE_DEVICES": "GPU-0a"}).on_gpu and Slot("whatever is visible").on_gpu
