"""One lock per cell: nobody else gets it while somebody holds it, and looking does not take it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import ROOT

from suites.work.locks import acquire, is_held

HOLDER = """
import sys
from pathlib import Path
from suites.work.locks import acquire
assert acquire(Path(sys.argv[1]), "a") is not None
print("held", flush=True)
sys.stdin.read()
"""


def test_a_cell_is_locked_once_and_another_cell_is_free(tmp_path: Path) -> None:
    first = acquire(tmp_path, "a")
    assert first is not None and acquire(tmp_path, "a") is None
    second = acquire(tmp_path, "b")
    assert second is not None and is_held(tmp_path, "a") and is_held(tmp_path, "b")
    first.release()
    assert not is_held(tmp_path, "a") and is_held(tmp_path, "b")
    second.release()


def test_looking_leaves_nothing_behind(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "runs", "a")
    assert list(tmp_path.iterdir()) == []


def test_a_holder_that_is_killed_leaves_no_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    assert is_held(tmp_path, "a") and acquire(tmp_path, "a") is None
    holder.kill()
    holder.communicate()
    lock = acquire(tmp_path, "a")
    assert lock is not None
    lock.release()
