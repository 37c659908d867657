"""What ten thousand cells that train for 0.01 s each take on this machine and on a real Slurm, as rows of a table.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.many_cells local
    OMP_NUM_THREADS=1 python -m tests.benchmarks.many_cells slurm

Two workers here; there two nodes of one core each, fifty cells a job, submitted and left. All but the training is real:
processes, checkpoints, locks, records, the queue. CPU time of a command is its own and that of the programs that it
calls; of the local run, whose workers are among these, its own alone. What plans, states and reports of so many take is
in ``test_scale.py``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.benchmarks.test_clusters import ROOT
from tests.benchmarks.test_scale import suite
from tests.slurm import cluster

PER_JOB = 50
RECIPE = """
title: an epoch
source: tests
task: classification
recipe: {epochs: 1, batch_size: 8, optimizer: {name: sgd, lr: 0.1}}
"""
TICKS = os.sysconf("SC_CLK_TCK")


class Running:
    """A command, whose CPU time and peak of memory are known once it has ended."""

    def __init__(self, command: Sequence[object], environment: Mapping[str, str], programs: bool = True) -> None:
        path = os.pathsep.join([str(ROOT / "tests" / "suites"), str(ROOT)])
        own = {**os.environ, **environment, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        self.began, self.programs, self.cpu, self.peak = time.perf_counter(), programs, 0.0, 0.0
        self.process = subprocess.Popen(
            [sys.executable, *map(str, command)], env=own, cwd=ROOT, stdout=subprocess.DEVNULL
        )

    def wait(self) -> float:
        """Its seconds, after its end."""
        while self._alive():
            self._look()
            time.sleep(0.02)
        took = time.perf_counter() - self.began
        self._look()
        if self.process.wait():
            raise SystemExit(f"{self.process.args} ended with {self.process.returncode}")
        return took

    def _alive(self) -> bool:
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def _look(self) -> None:
        place = Path(f"/proc/{self.process.pid}")
        with suppress(OSError):
            ticks = list(map(int, (place / "stat").read_text().rpartition(")")[2].split()[11:15]))
            self.cpu = sum(ticks if self.programs else ticks[:2]) / TICKS
            for line in (place / "status").read_text().splitlines():
                if line.startswith("VmHWM"):  # not once it has ended
                    self.peak = int(line.split()[1]) / 1024

    def told(self) -> str:
        return f"{self.cpu:.1f} s of CPU time, {self.peak:.0f} MiB"


def row(what: str, told: str) -> None:
    print(f"| {what} | {told} |", flush=True)


def done(store: Path) -> int:
    return sum(1 for _ in os.scandir(store / "records")) if (store / "records").exists() else 0


def locally(file: Path, store: Path, cells: int) -> None:
    store.mkdir()
    driver = Running((ROOT / "tests" / "suites" / "drive.py", file, store, 2), {}, programs=False)
    took = driver.wait()
    row("run by two local workers", f"{took:.0f} s, {cells / took:.1f} cells/s; the run itself {driver.told()}")


def on_slurm(file: Path, store: Path, cells: int, folder: Path) -> None:
    made = cluster.Cluster(folder, cpus=1, largest=1001)
    try:
        chosen = ("--executor", "slurm-short", "--device", "cpu", "--cells-per-job", PER_JOB)
        began = time.perf_counter()
        submitting = Running(("-m", "tests.slurm.short", "run", file, "--store", store, *chosen), made.environment)
        row("submitted to Slurm", f"{submitting.wait():.0f} s; {submitting.told()}")
        while done(store) < cells / 2:
            time.sleep(1)
        looking = Running(("-m", "tests.slurm.short", "status", file, "--store", store), made.environment)
        row("`adm status` meanwhile, half of them done", f"{looking.wait():.1f} s; {looking.told()}")
        while done(store) < cells:
            time.sleep(1)
        took = time.perf_counter() - began
        row("submission to last record on Slurm", f"{took:.0f} s, {cells / took:.1f} cells/s")
    finally:
        made.down()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train ten thousand cells, next to nothing each.")
    parser.add_argument("where", choices=("local", "slurm"))
    parser.add_argument("--rows", type=int, default=50, help="of 200 cells each; default: 50")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adm-many-") as name:
        folder = Path(name)
        (folder / "recipe.yaml").write_text(RECIPE)
        (folder / "many.yaml").write_text(suite("digit-scenes@1", "./recipe.yaml", given.rows))
        cells = 200 * given.rows
        print(f"{cells:,} cells")
        if given.where == "local":
            locally(folder / "many.yaml", folder / "runs", cells)
        else:
            (folder / "slurm").mkdir()
            on_slurm(folder / "many.yaml", folder / "runs", cells, folder / "slurm")


if __name__ == "__main__":
    main()
