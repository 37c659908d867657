"""How long ``adm report`` takes on ten thousand records, from start to end of the process.

    OMP_NUM_THREADS=1 pytest tests/benchmarks/test_report.py --benchmark-only -s

Claim: under 5 s. The records are of full size: curves, costs, environment.
"""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from results.records.schema import Attempt, Cell, Manifest, ManifestRow, MethodPart, Primary, Record
from results.records.store import Store

ADM = Path(sys.executable).with_name("adm")
METHODS, PAIRS, SEEDS, EPOCHS = 50, 20, 10, 24
"""10,000 cells; curves have a value for every tenth of 240 epochs."""


def cell(method: int, pair: int, seed: int) -> Cell:
    name = "none" if method == 0 else f"method-{method}"
    return Cell(
        task="classification", benchmark="cifar100@1", protocol="cifar100-240e", protocol_digest="0" * 16,
        regime="online", student=f"student{pair}", teacher=f"teacher{pair}", seed=seed,
        method=(MethodPart(name=name, version=1, settings={"temperature": 4.0, "weight": 1.0}),),
    )  # fmt: skip


def record(made: Cell, rng: random.Random) -> Record:
    curve = [rng.uniform(20, 75) for _ in range(EPOCHS)]
    names = ("lr", "train.student.task", "train.student.kd", "validation.student.top1", "validation.student.ece")
    return Record(
        id=made.id, cell=made, status="ok",
        scores={
            role: {"top1": rng.gauss(70, 2), "top5": rng.gauss(90, 1), "nll": 1.2, "brier": 0.4, "ece": 4.0}
            for role in ("student", "teacher")
        },
        primary=Primary(metric="top1", higher_is_better=True, unit="%", selection="last"),
        curves={"epoch": [float(10 * n + 10) for n in range(EPOCHS)]} | dict.fromkeys(names, curve),
        cost={"setup_s": 4.0, "train_s": 900.0, "eval_s": 3.0, "step_ms": 20.0, "peak_memory_mb": 900.0,
              "parameters": {"student": 278324, "teacher": 861620, "method": 0}},
        environment={"python": "3.11", "torch": "2.14", "device": "a GPU", "precision": "fp32", "cores": 16},
        attempts=[Attempt(status="ok", seconds=910.0)],
    )  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """A store of synthetic records; written as plain files, since ten thousand fsyncs are not what is measured."""
    root, rng, rows = tmp_path_factory.mktemp("large"), random.Random(0), []
    (root / "records").mkdir()
    for pair in range(PAIRS):
        for method in range(METHODS):
            for seed in range(SEEDS):
                made = cell(method, pair, seed)
                (root / "records" / f"{made.id}.json").write_text(record(made, rng).model_dump_json(indent=1))
                rows.append(ManifestRow(cell=made, id=made.id, label=made.method_name, block="Online"))
    Store(root).write_manifest(Manifest(suite="large", title="Ten thousand records", rows=rows))
    return root


@pytest.mark.parametrize("table", ["scores", "cost"])
def test_report_of_ten_thousand_records(benchmark, tell, store, table):
    took = []

    def call() -> None:
        began = time.perf_counter()
        words = [str(ADM), "report", "large", "--store", str(store), "--table", table]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300)
        took.append(time.perf_counter() - began)
        assert done.returncode == 0, done.stderr
        assert "method-49" in done.stdout

    benchmark.pedantic(call, rounds=3)
    count = METHODS * PAIRS * SEEDS
    what = f"`adm report SUITE --table {table}` of {count:,} records"
    tell(what, f"{min(took):.2f} s", best_s=min(took), records=count)
