"""A real Ray of two nodes for tests, joined once for all of them; where there is none, they are skipped."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from suites.executors import registry
from tests.ray.cluster import Cluster, why_not


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    if reason := why_not():
        pytest.skip(f"no Ray can be started here: {reason}")
    folder = Path(tempfile.mkdtemp(prefix="adm-ray-"))  # pytest's own are too long for the names of sockets
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Where the files of a further cluster lie."""
    with _folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def _cluster() -> Iterator[Cluster]:
    with _folder() as folder:
        import ray

        made = Cluster(folder)
        try:
            ray.init(made.address, log_to_driver=False, logging_level=logging.ERROR)
            yield made
        finally:
            ray.shutdown()
            made.down()


@pytest.fixture
def cluster(_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A head without CPUs and two nodes with one each, for trainings of a short sum; this process is a driver."""
    from tests.ray.short import ShortRay

    monkeypatch.setenv("RAY_ADDRESS", _cluster.address)
    monkeypatch.setitem(registry._known, ShortRay.name, ShortRay)
    return _cluster
