"""``adm clean``: what a store can do without goes, what a cell that is to do needs stays, and so does every result."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest
from command_line import adm, refusal
from conftest import scores, starts
from drive import drive, find

from results.records.store import Store
from suites.run.clean import KINDS, remove
from suites.run.clean import find as find_waste
from suites.run.submission import Ended, Submission
from suites.work.folder import WorkFolder
from suites.work.locks import acquire

LEFT = {"leftovers": 2, "work": 10, "unused": 1, "jobs": 1, "artefacts": 1}
"""What can go of the finished store, but for locks and logs."""


@pytest.fixture
def finished(suite: Path, store: Path) -> Path:
    """A store whose suite was run, with a foreign cell's work, an artefact, and what kills have left."""
    drive(suite, store)
    adm("run", suite, "--store", store, "--device", "cpu")  # writes the manifest, trains nothing
    WorkFolder.of(store, "0123456789abcdef").conclude({"status": "ok"})
    (store / "artefacts" / "pass").mkdir(parents=True)
    (store / "artefacts" / "pass" / "x.safetensors").write_bytes(bytes(2048))
    for name, age in ((".old.json.0a1b2c3d.tmp", 7200), (".new.json.0a1b2c3d.tmp", 0)):
        (store / "records" / name).touch()
        os.utime(store / "records" / name, (time.time() - age,) * 2)
    (store / "records" / "0123456789abcdef.json.unreadable").write_text("{")
    over = {0: Ended(told="job 3_0 COMPLETED on n1")}
    for name, ended in (("1", over), ("2", {})):  # of the other the end is not known yet
        Submission(name=name, suite="mine", queue="slurm", lists=(("0" * 16,),), arrays=(0,), ended=ended).write(store)
    return store


def kinds(store: Path) -> Counter[str]:
    return Counter(waste.kind for waste in find_waste(Store(store)))


def test_nothing_is_removed_without_yes_and_sizes_are_told(finished: Path) -> None:
    before = sorted(finished.rglob("*"))
    answer = adm("clean", "--store", finished)
    assert answer.code == 0 and "can go; nothing is removed without --yes" in answer.out
    assert all(f"\n{kind} " in answer.out for kind in KINDS) and "2.0 kB" in answer.out
    assert sorted(finished.rglob("*")) == before
    assert kinds(finished) == {"locks": 9, "logs": 9} | LEFT


def test_what_is_removed_changes_no_result(finished: Path, suite: Path) -> None:
    before, tables = scores(finished), adm("report", "mine", "--store", finished).out
    assert f"\n{finished}: removed " in adm("clean", "--store", finished, "--yes").out
    left = {path.name for path in finished.iterdir()}
    assert left == {"records", "suites", "protocols", "jobs", "starts.txt", "workers.txt", "epochs.txt"}
    assert (finished / "records" / ".new.json.0a1b2c3d.tmp").exists()  # somebody may be writing it
    assert adm("clean", "--store", finished).out == f"{finished}: nothing can go\n"
    assert scores(finished) == before and adm("report", "mine", "--store", finished).out == tables
    assert drive(suite, finished).exit_code == 0 and len(starts(finished)) == 9


def test_what_a_cell_that_is_to_do_needs_stays(finished: Path, suite: Path) -> None:
    teacher, open_cell = find(suite, "none", 0, "alone").id, find(suite, "kd", 1).id
    Store(finished).record_path(open_cell).unlink()
    (WorkFolder.of(finished, open_cell).path / "checkpoint.pt").write_text("[3, 'x']")
    adm("clean", "--store", finished, "--yes")
    assert WorkFolder.of(finished, teacher).weights.exists()
    assert {path.name for path in WorkFolder.of(finished, open_cell).path.iterdir()} >= {"checkpoint.pt", "log.txt"}
    assert (finished / "artefacts" / "pass" / "x.safetensors").exists()
    assert WorkFolder.ids(finished) == sorted([teacher, open_cell])


def test_only_the_kinds_that_are_named_go(finished: Path) -> None:
    adm("clean", "logs", "locks", "--store", finished, "--yes")
    assert kinds(finished) == LEFT
    assert refusal("clean", "lgos", "--store", finished) == "unknown kind 'lgos'; did you mean logs, locks, jobs?"


def test_cells_at_which_a_runner_is_are_left_alone(finished: Path, suite: Path) -> None:
    before, cell = find_waste(Store(finished)), find(suite, "kd", 0).id
    lock = acquire(finished, cell)
    assert lock is not None
    assert cell not in {waste.cell for waste in find_waste(Store(finished))}
    remove(Store(finished), before)  # a runner may begin after the look
    assert WorkFolder.of(finished, cell).log.exists() and (finished / "locks" / f"{cell}.lock").exists()
    lock.release()


def test_a_lock_whose_file_was_removed_locks_nothing(tmp_path: Path) -> None:
    """Who opened the file before it went must not hold the lock beside whoever makes it anew."""
    from suites.work import locks

    first = acquire(tmp_path, "a")
    assert first is not None
    opened = os.open(tmp_path / "locks" / "a.lock", os.O_RDWR)
    locks.forget(tmp_path, "a", first)
    second = acquire(tmp_path, "a")
    assert second is not None and not os.path.samestat(os.fstat(second.descriptor), os.fstat(opened))
    assert acquire(tmp_path, "a") is None
    os.close(opened)
    second.release()


def test_a_damaged_manifest_stops_it(finished: Path) -> None:
    Store(finished).manifest_path("mine").write_text("{")
    assert "is damaged" in refusal("clean", "--store", finished, "--yes")
    assert "no such folder" in refusal("clean", "--store", finished / "gone")
