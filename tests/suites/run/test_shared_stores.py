"""Stores that several people share: modes follow the umask, others may look, file systems without locks are told."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from command_line import adm, refusal
from conftest import scores
from drive import ONE_CELL, drive, find

from adm_core import checkpoint
from results.records.store import Store
from suites.work.folder import WorkFolder
from suites.work.locks import acquire, is_held

NOBODY = 65534


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def somebody_else() -> Iterator[None]:
    """This process as a user who owns nothing; root is asked to become one, others own what they are not let write."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(os.getuid())


def modes(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_mode & 0o777 for path in root.rglob("*")}


def look_at(store: Path, suite: Path) -> None:
    """Every command that looks at a store and writes elsewhere."""
    with tempfile.TemporaryDirectory() as folder:
        for words in (
            ("plan", suite), ("status", suite), ("report", "one"), ("report", "one", "--out", f"{folder}/board.md"),
            ("export", "one", "--out", f"{folder}/scores.csv"), ("insight", "one", "--images", "20", "--device", "cpu"),
            ("logs", next((store / "records").iterdir()).stem),
        ):  # fmt: skip
            answer = adm(*words, "--store", store)
            assert answer.code == 0, (words, answer)
        assert adm("compare", store, store).code == 0


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """A real cell trained by a team that works with umask 002; the store lies where everybody may look."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        (root / "one.yaml").write_text(ONE_CELL)
        with umask(0o002):
            done = adm("run", root / "one.yaml", "--store", root / "runs", "--executor", "inline", "--device", "cpu")
            assert done.code == 0, done
            WorkFolder.of(root / "runs", "0" * 16).report({"epoch": 1})
            checkpoint.save(root / "runs" / "work" / "checkpoint.pt", {"weight": torch.zeros(2)})
        look_at(root / "runs", root / "one.yaml")  # imports what somebody else may not be let read
        yield root


def test_modes_of_all_files_follow_the_umask(shared: Path) -> None:
    found = modes(shared / "runs")
    assert {Path(name).suffix for name in found} >= {".json", ".safetensors", ".txt", ".pt", ".lock"}
    wrong = {name: oct(mode) for name, mode in found.items() if mode != (0o664 if Path(name).suffix else 0o775)}
    assert wrong == {}


@pytest.fixture
def read_only(shared: Path) -> Iterator[Path]:
    """The store with its files as they were, where nothing may be written by whoever is somebody else."""
    before = modes(shared)
    for name, mode in before.items():
        (shared / name).chmod(mode & 0o555)
    with somebody_else():
        yield shared
    for name, mode in before.items():
        (shared / name).chmod(mode)


def test_the_read_only_store_of_another_user_can_be_looked_at(read_only: Path) -> None:
    store, suite = read_only / "runs", read_only / "one.yaml"
    before = modes(store)
    look_at(store, suite)
    assert modes(store) == before
    assert "Permission denied" in refusal("run", suite, "--store", store, "--device", "cpu")


def test_a_lock_of_another_user_is_seen_and_told(read_only: Path) -> None:
    cell = next((read_only / "runs" / "records").iterdir()).stem
    assert not is_held(read_only / "runs", cell)
    with pytest.raises(Exception, match=rf"{cell}\.lock: a cell cannot be locked for training: Permission denied"):
        acquire(read_only / "runs", cell)


def test_folders_that_may_not_be_entered_are_told_in_one_line(shared: Path, tmp_path: Path) -> None:
    (shared / "runs").chmod(0o700 if os.geteuid() == 0 else 0)
    try:
        with somebody_else():
            assert "Permission denied" in refusal("report", "one", "--store", shared / "runs")
    finally:
        (shared / "runs").chmod(0o775)


@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_and_can_be_looked_at(
    suite: Path, store: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    lock = acquire(store, find(suite, "kd", 0).id)
    assert lock is not None
    lock.release()

    def without_locks(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(fcntl, "flock", without_locks)
    told = f"store '{store}': its file system locks no files ({os.strerror(reason)})"
    for command in ("plan", "status"):
        answer = adm(command, suite, "--store", store)
        assert answer.code == 0 and told in answer.err and answer.err.count("\n") == 1
    run = adm("run", suite, "--store", store, "--device", "cpu", "--executor", "inline")
    assert (run.code, run.err.count("\n")) == (2, 1) and run.err.startswith(f"error: {told}") and "--store" in run.err
    assert Store(store).ids() == []


def test_a_failed_write_leaves_no_cell_locked(suite: Path, store: Path) -> None:
    (store / "records").write_text("a file where the folder should be")
    with pytest.raises(Exception, match="cannot be written"):
        drive(suite, store, workers=2)
    assert [file.stem for file in (store / "locks").iterdir() if is_held(store, file.stem)] == []
    (store / "records").unlink()
    assert drive(suite, store).exit_code == 0 and len(scores(store)) == 9
