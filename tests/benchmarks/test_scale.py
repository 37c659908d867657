"""What commands take on a suite of ten thousand cells: CPU time of the process from start to end, and its peak memory.

    OMP_NUM_THREADS=1 pytest tests/benchmarks/test_scale.py --benchmark-only -s

Claim: under 10 s, to merge under 20 s, and 0.5 GiB; CPU time, as other work on the machine slows the clock.
The records are of full size: curves, costs, environment.
"""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from results.records.schema import Attempt, Cell, Manifest, ManifestRow, Primary, Record
from results.records.store import Store
from suites.spec.expand import expand

ADM = Path(sys.executable).with_name("adm")
TEACHERS, STUDENTS = (
    ("resnet32", "resnet44", "resnet56", "resnet110"),
    ("resnet8", "resnet14", "resnet20", "vgg8", "vgg13"),
)
ROWS, SEEDS, EPOCHS = 50, 10, 24
"""10,000 cells; curves have a value for every tenth of 240 epochs."""
LAUNCHER = """
import json, os, sys
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(process, 0)
print(json.dumps([status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]), file=sys.stderr)
"""
"""Starts a command from a small process: Linux counts what the one that starts it held as its own peak."""
CELLS = len(TEACHERS) * len(STUDENTS) * ROWS * SEEDS


def suite(benchmark: str = "cifar100@1", protocol: str = "cifar100-240e", rows: int = ROWS) -> str:
    """A suite of 200 cells a row."""
    others = [
        {"method": "dml", "label": f"dml-{n}", "settings": {"dml": {"temperature": 1 + n / 8}}} for n in range(1, rows)
    ]
    pairs = [f"{teacher} > {student}" for teacher in TEACHERS for student in STUDENTS]
    block = {
        "title": "Online", "task": "classification", "benchmark": benchmark, "protocol": protocol,
        "regime": "online", "pairs": pairs, "methods": ["none", *others], "seeds": list(range(SEEDS)),
    }  # fmt: skip
    return json.dumps({"title": "Ten thousand cells", "blocks": [block]}, indent=1)


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
def folder(tmp_path_factory) -> Path:
    """A suite, and a store of its records; written as plain files, as ten thousand fsyncs are not what is measured."""
    root, rng = tmp_path_factory.mktemp("large"), random.Random(0)
    (root / "runs" / "records").mkdir(parents=True)
    (root / "large.yaml").write_text(suite())
    rows = [
        ManifestRow(cell=r.cell, id=r.id, label=r.label, block=r.block) for r in expand(str(root / "large.yaml")).rows
    ]
    for row in rows:
        (root / "runs" / "records" / f"{row.id}.json").write_text(record(row.cell, rng).model_dump_json(indent=1))
    assert len(rows) == CELLS
    Store(root / "runs").write_manifest(Manifest(suite="large", title="Ten thousand cells", rows=rows))
    return root


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("plan large.yaml", "10000 done"),
        ("status large.yaml", "10000 done"),
        ("report large --table scores", "dml-49"),
        ("report large --table cost", "dml-49"),
        ("merge runs --into all", "10000 records from runs"),
    ],
)
def test_a_suite_of_ten_thousand_cells(benchmark, tell, folder, command, words):
    took, peaks = [], []

    def call() -> None:
        with (folder / "out.txt").open("w") as out:
            given = [sys.executable, "-S", "-c", LAUNCHER, str(ADM), *command.split()]
            told = subprocess.run(given, cwd=folder, stdout=out, stderr=subprocess.PIPE, text=True, check=True)
        status, seconds, peak = json.loads(told.stderr.splitlines()[-1])
        took.append(seconds)
        peaks.append(peak)
        assert status == 0 and words in (folder / "out.txt").read_text()

    benchmark.pedantic(call, rounds=1 if command.startswith("merge") else 3)  # merged again, nothing is written
    what = f"`adm {command}` of {CELLS:,} cells, all done"
    tell(
        what,
        f"{min(took):.1f} s of CPU time, {max(peaks):.0f} MiB",
        best_s=min(took),
        peak_mib=max(peaks),
        records=CELLS,
    )
