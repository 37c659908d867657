"""What Slurm adds to a cell, with jobs of 1, 10 and 50 cells, and locally: wall time a cell, of trainings of 0.12 s.

On a real Slurm of two nodes of one core each. Its ``--json`` is where the table of docs/clusters.md comes from:
``pytest tests/benchmarks/test_slurm.py --benchmark-only``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from results.records.store import Store
from tests.slurm.cluster import Cluster, why_not

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
def cluster() -> Iterator[Cluster]:
    """Two nodes of a core each."""
    if reason := why_not():
        pytest.skip(f"no Slurm can be started here: {reason}")
    folder = Path(tempfile.mkdtemp(prefix="adm-slurm-"))
    made = Cluster(folder, cpus=1, largest=1001)
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


def train(cluster: Cluster, *words: object) -> None:
    """Run a command with the test worker to its end."""
    path = os.pathsep.join([str(ROOT / "tests" / "suites"), str(ROOT)])
    environment = {**os.environ, **cluster.environment, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *map(str, words)], env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("per_job", [None, 1, 10, 50])
def test_what_a_cell_costs(cluster: Cluster, suite: Path, tmp_path: Path, per_job: int | None, benchmark: Any) -> None:
    store = tmp_path / "runs"
    slurm = ["-m", "tests.slurm.short", "run", suite, "--store", store, "--executor", "slurm-short", "--device", "cpu"]
    local = [ROOT / "tests" / "suites" / "drive.py", suite, store, 2]

    def run() -> None:
        began = time.perf_counter()
        train(cluster, *(local if per_job is None else [*slurm, "--cells-per-job", per_job, "--wait"]))
        benchmark.extra_info["ms_a_cell"] = round((time.perf_counter() - began) / CELLS * 1000)

    store.mkdir()
    benchmark.pedantic(run, rounds=1)
    assert len(Store(store).ids()) == CELLS
