"""What whoever has just installed ADM-Bench waits for: ``adm run bench``, from an empty store, by the clock.

    pytest tests/benchmarks/test_bench.py --benchmark-only -s

Twelve minutes on two cores, and more where other work runs beside.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from adm_core.cpu import cores
from results.records.store import Store
from suites.spec.expand import expand

ADM = Path(sys.executable).with_name("adm")


@pytest.mark.timeout(4 * 3600)
def test_all_of_bench(benchmark, tell, tmp_path):
    command = [str(ADM), "run", "bench", "--store", str(tmp_path / "store"), "--device", "cpu"]
    benchmark.pedantic(lambda: subprocess.run(command, check=True, capture_output=True), rounds=1)
    minutes, cells = benchmark.stats["max"] / 60, [cell.id for cell in expand("bench").cells]
    records, _ = Store(tmp_path / "store").records(cells)
    assert all(records[cell].status == "ok" for cell in cells)
    tell(
        f"`adm run bench`: {len(cells)} cells of three tasks, teachers included, on {cores()} cores",
        f"{minutes:.0f} min",
        headline=True,
        minutes=minutes,
    )
