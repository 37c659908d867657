"""What Slurm and Ray add to a cell, and what a cell costs locally: wall time a cell, of trainings of 0.12 s.

On a real Slurm and a real Ray of two nodes of one core each. The tables of docs/clusters.md come from its JSON:
``pytest tests/benchmarks/test_clusters.py --benchmark-only --benchmark-json=clusters.json``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from results.records.store import Store
from tests.ray import cluster as ray_cluster
from tests.slurm import cluster as slurm_cluster

Cluster = TypeVar("Cluster", slurm_cluster.Cluster, ray_cluster.Cluster)
CELLS = 100
ROOT = Path(__file__).resolve().parents[2]
SUITE = f"""
title: Many cells that train next to nothing
blocks:
  - title: Online
    task: classification
    benchmark: digit-scenes@1
    protocol: ./recipe.yaml
    pairs: [resnet20 > resnet8]
    regime: online
    methods: [none]
    seeds: [{", ".join(map(str, range(CELLS)))}]
"""
RECIPE = """
title: a test's recipe
source: tests
task: classification
recipe: {epochs: 12, batch_size: 8, optimizer: {name: sgd, lr: 0.1}}
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[slurm_cluster.Cluster]:
    """Two nodes of a core each."""
    yield from started(slurm_cluster.why_not(), lambda folder: slurm_cluster.Cluster(folder, cpus=1, largest=1001))


@pytest.fixture(scope="module")
def ray() -> Iterator[ray_cluster.Cluster]:
    """Two nodes of a core each, and a head without any."""
    yield from started(ray_cluster.why_not(), ray_cluster.Cluster)


def started(why_not: str, start: Callable[[Path], Cluster]) -> Iterator[Cluster]:
    """A cluster in a folder of its own, ended afterwards."""
    if why_not:
        pytest.skip(f"it cannot be started here: {why_not}")
    folder = Path(tempfile.mkdtemp(prefix="adm-cluster-"))
    made = start(folder)
    try:
        yield made
    finally:
        made.down()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "many.yaml").write_text(SUITE)
    return tmp_path / "many.yaml"


def train(benchmark: Any, store: Path, environment: Mapping[str, str], *words: object) -> None:
    """Run a command with the test worker to its end."""
    path = os.pathsep.join([str(ROOT / "tests" / "suites"), str(ROOT)])
    own = {**os.environ, **environment, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    store.mkdir()

    def run() -> None:
        began = time.perf_counter()
        done = subprocess.run([sys.executable, *map(str, words)], env=own, capture_output=True, text=True, cwd=ROOT)
        benchmark.extra_info["ms_a_cell"] = round((time.perf_counter() - began) / CELLS * 1000)
        assert done.returncode == 0, done.stdout + done.stderr

    benchmark.pedantic(run, rounds=1)
    assert len(Store(store).ids()) == CELLS


def test_what_a_cell_costs_locally(suite: Path, tmp_path: Path, benchmark: Any) -> None:
    train(benchmark, tmp_path / "runs", {}, ROOT / "tests" / "suites" / "drive.py", suite, tmp_path / "runs", 2)


@pytest.mark.parametrize("per_job", [1, 10, 50])
def test_what_a_cell_costs_on_slurm(
    slurm: slurm_cluster.Cluster, suite: Path, tmp_path: Path, per_job: int, benchmark: Any
) -> None:
    command = ("-m", "tests.slurm.short", "run", suite, "--store", tmp_path / "runs", "--executor", "slurm-short")
    more = ("--device", "cpu", "--cells-per-job", per_job, "--wait")
    train(benchmark, tmp_path / "runs", slurm.environment, *command, *more)


def test_what_a_cell_costs_on_ray(ray: ray_cluster.Cluster, suite: Path, tmp_path: Path, benchmark: Any) -> None:
    command = ("-m", "tests.ray.short", "run", suite, "--store", tmp_path / "runs", "--executor", "ray-short")
    train(benchmark, tmp_path / "runs", {"RAY_ADDRESS": ray.address}, *command, "--device", "cpu")
