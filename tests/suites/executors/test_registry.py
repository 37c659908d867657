"""Executors are found by name: the two that come along, and one that an outsider brings."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import adm, refusal
from drive import ONE_CELL

from adm_core.errors import AdmError
from suites.executors import registry
from suites.executors.inline import InlineExecutor
from suites.executors.local import LocalExecutor

COUNTING = '''
"""Trains cells in the runner's own process and counts them in a file."""

import os
import time
from pathlib import Path

from suites.executors.base import Ending, Executor, Handle
from suites.executors.registry import register
from suites.worker.entry import run_cell


class Ended(Handle):
    def __init__(self, job, ending):
        self.job, self.ending = job, ending


@register
class Counting(Executor):
    name = "counting"
    about = "counts what it trains"
    blocking = True

    def __init__(self, slots):
        self.slots, self.count = slots, 0

    @classmethod
    def from_options(cls, options):
        return cls(options.workers or 1)

    def start(self, job):
        began = time.monotonic()
        for member in job.members:
            run_cell(member.folder)
        self.count += 1
        return Ended(job, Ending(0, time.monotonic() - began))

    def poll(self, handle):
        return handle.ending

    def kill(self, handle):
        pass

    def close(self):
        Path(os.environ["COUNTED"]).write_text(str(self.count))
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts a module and its entry point where Python finds packages, as long as the test lasts."""
    registry.names()
    monkeypatch.setattr(registry, "_known", dict(registry._known))
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("COUNTED", str(tmp_path / "counted"))

    def put(source: str, name: str = "counting") -> None:
        about = tmp_path / "site" / "counting-1.0.dist-info"
        about.mkdir(parents=True)
        (about.parent / "counting_executor.py").write_text(source)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: counting\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[{registry.ENTRY_POINTS}]\n{name} = counting_executor:Counting\n")

    yield put
    sys.modules.pop("counting_executor", None)


def test_an_outsiders_executor_trains_a_suite(install: Callable[..., None], tmp_path: Path) -> None:
    install(COUNTING)
    (tmp_path / "mine.yaml").write_text(ONE_CELL)
    done = adm("run", "mine.yaml", "--executor", "counting", "--device", "cpu", cwd=tmp_path)
    assert done.code == 0, done
    assert "mine: 1 cell done" in done.out
    assert (tmp_path / "counted").read_text() == "1"
    (record,) = (tmp_path / "runs" / "records").glob("*.json")
    assert json.loads(record.read_text())["status"] == "ok"


def test_an_outsiders_executor_is_listed(install: Callable[..., None]) -> None:
    install(COUNTING)
    assert {"name": "counting", "about": "counts what it trains"} in adm("list", "executors", "--json").json


@pytest.mark.parametrize(
    ("source", "name", "words"),
    [
        ("1 / 0", "counting", "executor 'counting' (counting_executor:Counting) cannot be imported: ZeroDivisionError"),
        (COUNTING, "counts", "executor 'counts' (counting_executor:Counting) registers no executor of that name"),
        (COUNTING.replace('"counting"', '"local"'), "local", "two executors are named 'local': "),
    ],
    ids=["broken", "other name", "name taken"],
)
def test_a_faulty_executor_from_elsewhere_is_told_in_one_line(
    install: Callable[..., None], source: str, name: str, words: str
) -> None:
    install(source, name)
    told = refusal("run", "smoke", "--executor", name)
    assert words in told and "\n" not in told


def test_executors_are_found_by_name() -> None:
    assert {"inline", "local"} <= set(registry.names())
    assert registry.get("inline") is InlineExecutor and registry.get("local") is LocalExecutor
    assert "unknown executor 'locol'; did you mean local?" in refusal("run", "smoke", "--executor", "locol")


def test_an_executor_of_another_file_may_not_take_a_name(tmp_path: Path) -> None:
    with pytest.raises(AdmError, match=r"two executors are named 'local': .*local\.py and .*test_registry\.py"):

        @registry.register
        class Other(LocalExecutor):
            name = "local"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--timeout", "5"), "--timeout needs --executor local"),
        (("--workers", "2"), "--workers 2 needs --executor local"),
        (("--group", "2"), "--group 2 needs --executor local: a worker of 'inline' trains one cell"),
    ],
    ids=["timeout", "workers", "group"],
)
def test_what_an_executor_cannot_do_is_refused(tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    assert words in refusal("run", "smoke", "--executor", "inline", "--store", tmp_path, *options)
    assert adm("status", "smoke", "--store", tmp_path).code == 0 and not (tmp_path / "records").exists()
