"""Executors are found by name: the two that come along, and one that an outsider brings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import adm, refusal
from drive import ONE_CELL

from adm_core.errors import AdmError
from suites.executors import registry
from suites.executors.inline import InlineExecutor
from suites.executors.local import LocalExecutor

ADM = Path(sys.executable).with_name("adm")
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
        run_cell(job.folder)
        self.count += 1
        return Ended(job, Ending(0, time.monotonic() - began))

    def poll(self, handle):
        return handle.ending

    def kill(self, handle):
        pass

    def close(self):
        Path(os.environ["COUNTED"]).write_text(str(self.count))
'''
Installed = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    """Puts a module and its entry point where Python finds packages, and runs a command there."""

    def run(source: str, *arguments: str, name: str = "counting") -> subprocess.CompletedProcess[str]:
        site = tmp_path / "site"
        about = site / "counting-1.0.dist-info"
        about.mkdir(parents=True, exist_ok=True)
        (site / "counting_executor.py").write_text(source)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: counting\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[{registry.ENTRY_POINTS}]\n{name} = counting_executor:Counting\n")
        (tmp_path / "mine.yaml").write_text(ONE_CELL)
        given = {"PYTHONPATH": str(site), "COUNTED": str(tmp_path / "counted"), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [str(ADM), *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300, env=os.environ | given
        )

    return run


def test_an_outsiders_executor_trains_a_suite(installed: Installed, tmp_path: Path) -> None:
    done = installed(COUNTING, "run", "mine.yaml", "--executor", "counting", "--device", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mine: all 1 cells are done" in done.stdout
    assert (tmp_path / "counted").read_text() == "1"
    (record,) = (tmp_path / "runs" / "records").glob("*.json")
    assert json.loads(record.read_text())["status"] == "ok"


def test_an_outsiders_executor_is_listed(installed: Installed) -> None:
    rows = json.loads(installed(COUNTING, "list", "executors", "--json").stdout)
    assert {"name": "counting", "about": "counts what it trains"} in rows


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
    installed: Installed, source: str, name: str, words: str
) -> None:
    done = installed(source, "run", "mine.yaml", "--executor", name, name=name)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr and done.stderr.count("\n") == 1


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
    ],
    ids=["timeout", "workers"],
)
def test_what_an_executor_cannot_do_is_refused(tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    assert words in refusal("run", "smoke", "--executor", "inline", "--store", tmp_path, *options)
    assert adm("status", "smoke", "--store", tmp_path).code == 0 and not (tmp_path / "records").exists()
