"""``adm deploy``: what was trained here, whatever was deployed, is run by a script that knows torch alone."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from command_line import adm, refusal

from results.records.store import Store
from suites.look.trained import TrainedCells

BLOCK = "task: classification\n    benchmark: digit-scenes@1\n    protocol: ./recipe.yaml\n    seeds: [0]"
RECIPE = """title: two batches
source: tests
task: classification
recipe: {epochs: 1, batch_size: 64, optimizer: {name: adamw, lr: 0.004}}
data: {train_limit: 128, test_limit: 120, crop_padding: 1, flip: false}
"""
SUITE = f"""title: A student of each kind
blocks:
  - title: With its teacher's classifier
    {BLOCK}
    pairs: [resnet8w12s2 > resnet8w8s2]
    regime: offline
    methods: [simkd]
  - title: A branch, and a moving average
    {BLOCK}
    pairs: [resnet8w8s2]
    regime: peers
    methods: [one, pcl]
"""
SCRIPT = """
import sys, torch
images, labels = torch.load("images.pt")
found = {}
for name in sys.argv[1:]:
    student = torch.export.load(name).module()
    right = student(images).argmax(1) == labels
    assert torch.allclose(student(images[:1]), student(images)[:1], atol=1e-4)
    found[name] = 100 * float(right.double().mean())
assert not [name for name in sys.modules if name.split(".")[0] in ("adm_core", "tasks", "suites", "results")]
import json
print(json.dumps(found))
"""


def test_a_student_of_each_kind_runs_in_a_script_without_this_code(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "mine.yaml").write_text(SUITE)
    store, out = Store(tmp_path / "runs"), tmp_path / "out"
    answer = adm("run", tmp_path / "mine.yaml", "--store", store.root, "--executor", "inline", "--device", "cpu")
    assert answer.code == 0, answer
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="No complete tensor")
        answer = adm("deploy", "mine", "--store", store.root, "--out", out)
    assert answer.code == 0, answer
    records = [record for row in store.read_manifest("mine").rows if (record := store.read_record(row.id))]
    assert sorted(file.name for file in out.iterdir()) == sorted(f"{record.id}.pt2" for record in records)
    test = TrainedCells(store, "cpu").task(records[0].cell).test  # type: ignore[attr-defined]
    images = torch.as_tensor(test.images).float() / 255
    torch.save((images, torch.as_tensor(test.labels).long()), out / "images.pt")
    names = [f"{record.id}.pt2" for record in records]
    told = subprocess.run([sys.executable, "-I", "-c", SCRIPT, *names], cwd=out, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    expected = {f"{record.id}.pt2": record.score("student", "top1") for record in records}
    assert json.loads(told.stdout) == pytest.approx(expected)
    assert {record.cell.method_name for record in records} >= {"simkd", "one", "pcl"}


def test_a_suite_that_was_not_run_is_told(tmp_path: Path) -> None:
    assert "quick" in refusal("deploy", "quick", "--store", tmp_path)
