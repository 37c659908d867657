"""Files are replaced whole or not at all, whatever happens in between, and by several writers at once."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from adm_files import copy_mode, read, replacing, why_not_written


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a" / "file.txt"
    with replacing(file) as new:
        new.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(file) as new:
        new.write_text("half")
        raise KeyboardInterrupt
    assert file.read_text() == "old" and list(file.parent.iterdir()) == [file]


def test_writers_at_once_do_not_meet_in_one_unfinished_file(tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    texts = [str(number) * 100_000 for number in range(8)]

    def write(text: str) -> None:
        with replacing(file, durable=False) as new:
            for start in range(0, len(text), 1000):
                with new.open("a") as out:
                    out.write(text[start : start + 1000])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, texts))
    assert file.read_text() in texts and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_the_mode_is_what_the_umask_gives_any_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with replacing(tmp_path / "file.txt") as new:
            new.write_text("x")
    finally:
        os.umask(before)
    assert (tmp_path / "file.txt").stat().st_mode & 0o777 == 0o666 & ~mask


def test_what_libraries_write_past_the_umask_is_given_the_mode_of_its_neighbours(tmp_path: Path) -> None:
    with replacing(tmp_path / "weights.safetensors") as new:
        save_file({"x": np.zeros(1)}, new)
    mode = (tmp_path / "weights.safetensors").stat().st_mode
    (tmp_path / "plain").touch()
    assert mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "student" / "unet").mkdir(parents=True)
    private = tmp_path / "student" / "unet" / "weights.safetensors"
    private.touch(0o600)
    copy_mode(tmp_path / "weights.safetensors", tmp_path / "student")
    assert private.stat().st_mode == mode and (tmp_path / "student" / "unet").is_dir()


def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, folders = os.fsync, []

    def sync(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            folders.append(handle)
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", sync)
    with replacing(tmp_path / "file.txt") as new:
        new.write_text("x")
    assert (tmp_path / "file.txt").read_text() == "x" and len(folders) == 1


def test_a_full_disk_and_other_faults_are_told_apart(tmp_path: Path) -> None:
    full = why_not_written(tmp_path / "f", OSError(errno.ENOSPC, "No space left on device"))
    assert "the disk is full" in full and "nothing was left behind" in full and "free some space" in full
    assert "cannot be written: Read-only file system" in why_not_written(tmp_path, OSError(30, "Read-only file system"))


def test_a_file_that_is_stale_for_a_moment_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "record.json").write_text("{}")
    read_bytes, faults = Path.read_bytes, [errno.ESTALE, errno.ESTALE]

    def stale(path: Path) -> bytes:
        if faults:
            raise OSError(faults.pop(), "Stale file handle")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", stale)
    assert read(tmp_path / "record.json") == b"{}"
    faults.append(errno.EACCES)
    with pytest.raises(OSError, match="Stale"):
        read(tmp_path / "record.json")
    faults += [errno.ESTALE] * 9
    with pytest.raises(OSError, match="Stale") as told:
        read(tmp_path / "record.json")
    assert told.value.errno == errno.ESTALE and len(faults) == 5
