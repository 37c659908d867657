from __future__ import annotations
from pathlib import Path
from command_line import adm
from conftest import scores, starts
from drive import drive
from tests.slurm.cluster import Cluster
pytest_plugins = ["tests.slurm.fixtures"]

def test_first(cluster: Cluster, suite: Path, store: Path) -> None:
    import time
    t=time.time()
    done = adm("run", suite, "--store", store, "--executor", "slurm-short", "--device", "cpu", "--cells-per-job", 2, "--wait")
    print(done.out, done.err, time.time()-t)
    print(adm("status", suite, "--store", store).out)
    for f in (store/"jobs").glob("*/*.log"): print(f.name, f.read_text())
    for f in (store/"jobs").glob("*/*.journal"): print(f.name, f.read_text())
    for f in (store/"jobs").glob("*/submission.json"): print(f.name, f.read_text())
    assert 0
