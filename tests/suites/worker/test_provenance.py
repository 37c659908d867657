"""Which commit a record names: that of the code which trained, and no other's."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from adm_core.recipe import Optimizer, Recipe
from suites.worker import provenance


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def recorded(file: Path) -> tuple[object, object]:
    """Commit and dirtiness as the copy of the module in a file finds them."""
    spec = importlib.util.spec_from_file_location("copied_provenance", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.environment(torch.device("cpu"), Recipe(epochs=1, batch_size=1, optimizer=Optimizer(lr=0.1)))
    return found["git_commit"], found["git_dirty"]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The module inside somebody's repository, which does not track it."""
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "of another project")
    file = tmp_path / ".venv" / "site-packages" / "suites" / "worker" / "provenance.py"
    file.parent.mkdir(parents=True)
    shutil.copy(provenance.__file__, file)
    return file


def test_an_installed_copy_does_not_name_the_commit_of_the_project_around_it(copy: Path) -> None:
    assert recorded(copy) == (None, None)


def test_a_checkout_names_its_commit_and_whether_files_differ(copy: Path, tmp_path: Path) -> None:
    git(tmp_path, "add", "--force", str(copy))
    git(tmp_path, "commit", "--quiet", "-m", "the code")
    assert recorded(copy) == (git(tmp_path, "rev-parse", "HEAD"), False)
    copy.write_text(copy.read_text() + "\n# changed\n")
    assert recorded(copy) == (git(tmp_path, "rev-parse", "HEAD"), True)
