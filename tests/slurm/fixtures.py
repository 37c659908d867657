"""A real Slurm for tests, one for each of pytest's processes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from suites.executors import registry
from tests.slurm.cluster import Cluster, why_not
from tests.slurm.short import ShortSlurm


@pytest.fixture(scope="session")
def _cluster() -> Iterator[Cluster]:
    if reason := why_not():
        pytest.skip(f"no Slurm can be started here: {reason}")
    folder = Path(tempfile.mkdtemp(prefix="adm-slurm-"))  # pytest's own are too long for the names of sockets
    made = Cluster(folder)
    try:
        yield made
    finally:
        made.down()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster of two nodes with two cores each and arrays of five jobs at most, for trainings of a short sum."""
    for name, value in _cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(registry._known, ShortSlurm.name, ShortSlurm)
    yield _cluster
    _cluster.command("scancel", "--user=root")


@pytest.fixture
def without_locks(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A node on which locking a file does nothing, as on file systems that are mounted so."""
    folder = tmp_path / "without-locks"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import fcntl, os\nif os.environ.get('SLURMD_NODENAME') == 'n2':\n    fcntl.flock = lambda *_: None\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    return "n2"
