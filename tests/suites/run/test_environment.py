"""Nothing of the science is read from the environment: what launchers set moves no score."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SUITE = """title: One cell
blocks:
  - title: Online
    task: classification
    benchmark: digit-scenes@1
    protocol: smoke
    pairs: [resnet14w16s2 > resnet8w8s2]
    regime: online
    methods: [dml+adm]
    seeds: [0]
"""
LAUNCHED = {
    "WORLD_SIZE": "2", "PMI_SIZE": "4", "RANK": "1", "LOCAL_RANK": "1", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_USE_DEEPSPEED": "true",
}  # fmt: skip
ADM = Path(sys.executable).with_name("adm")


def trained(folder: Path, variables: dict[str, str]) -> dict[str, object]:
    """Scores and curves of every cell, by its id, trained in processes with these variables."""
    folder.mkdir()
    (folder / "one.yaml").write_text(SUITE)
    plain = {key: value for key, value in os.environ.items() if key not in LAUNCHED}
    command = [ADM, "run", "one.yaml", "--store", "store", "--device", "cpu", "--workers", "1"]
    done = subprocess.run(command, cwd=folder, env=plain | variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(file.read_text()) for file in (folder / "store" / "records").rglob("*.json")]
    return {record["id"]: (record["scores"], record["curves"]) for record in records}


def test_a_launchers_variables_move_no_score(tmp_path: Path) -> None:
    plain = trained(tmp_path / "plain", {})
    assert plain and plain == trained(tmp_path / "launched", LAUNCHED)
