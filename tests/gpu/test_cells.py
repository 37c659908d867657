"""Cells on a GPU from the command to the record: in lockstep, several at once, alone, and the same bits each time."""

import subprocess
import sys
from pathlib import Path

import pytest

from results.records.store import Store

SUITE = Path(__file__).with_name("cells.yaml")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trains the suite into a store of its own and gives its records by cell."""

    def records(*options):
        store = tmp_path_factory.mktemp("store")
        command = [sys.executable, "-m", "adm_bench", "run", str(SUITE), "--store", str(store), "--device", "cuda"]
        done = subprocess.run([*command, *options], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        found, damaged = Store(store).records()
        assert not damaged
        return found

    return records


@pytest.fixture(scope="module")
def together(run):
    return run("--per-gpu", "4")


def test_every_cell_is_trained_on_the_gpu(gpu, together):
    assert {record.status for record in together.values()} == {"ok"}
    told = {(record.environment["device"], record.environment["deterministic"]) for record in together.values()}
    assert len(told) == 1 and told.pop()[1] is True
    assert all(record.cost.peak_memory_mb > 0 for record in together.values())


def test_scores_do_not_depend_on_how_cells_share_the_gpu(gpu, run, together):
    """Of methods whose kernels are deterministic: all in this suite."""
    alone = run("--group", "1")
    assert alone.keys() == together.keys()
    differ = [record.cell.method_name for id, record in alone.items() if record.scores != together[id].scores]
    assert not differ
