"""Nothing of the science is read from the environment: what launchers set moves no score."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import adm

SUITE = """title: One cell
blocks:
  - title: Online
    task: classification
    benchmark: digit-scenes@1
    protocol: smoke
    pairs: [resnet8w8s2 > resnet8w8s2]
    regime: online
    methods: [dml+adm]
    seeds: [0]
"""
LAUNCHED = {
    "WORLD_SIZE": "2", "PMI_SIZE": "4", "RANK": "1", "LOCAL_RANK": "1", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_USE_DEEPSPEED": "true",
}  # fmt: skip
ADM = Path(sys.executable).with_name("adm")


def suite(folder: Path) -> Path:
    """The suite's file in a new folder."""
    folder.mkdir()
    (folder / "one.yaml").write_text(SUITE)
    return folder / "one.yaml"


def results(store: Path) -> dict[str, object]:
    """Scores and curves of every cell, by its id."""
    records = [json.loads(file.read_text()) for file in (store / "records").rglob("*.json")]
    return {record["id"]: (record["scores"], record["curves"]) for record in records}


def test_a_launchers_variables_move_no_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = suite(tmp_path / "launched")
    command = [ADM, "run", file, "--store", file.parent, "--device", "cpu", "--workers", "1"]
    done = subprocess.run(command, env=os.environ | LAUNCHED, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    plain = suite(tmp_path / "plain")
    assert adm("run", plain, "--store", plain.parent, "--device", "cpu", "--executor", "inline").code == 0
    assert results(plain.parent) and results(plain.parent) == results(file.parent)
