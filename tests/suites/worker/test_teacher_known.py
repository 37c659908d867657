"""What cells that share a teacher tell of it: its weights' digest, and scores that were taken once."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import adm

SUITE = """title: three cells with one teacher
blocks:
  - title: b
    task: classification
    benchmark: digit-scenes@1
    protocol: ./two.yaml
    pairs: [resnet8w8s2 > resnet8w8s2]
    regime: offline
    methods: [none, kd, ema-teacher]
    seeds: [0]
"""
PROTOCOL = """title: two epochs
source: tests
task: classification
recipe: {epochs: 2, batch_size: 64, optimizer: {name: sgd, lr: 0.1}}
data: {train_limit: 128, test_limit: 64, validation: 0.25}
"""


def test_students_tell_the_digest_of_their_teachers_record_and_share_its_scores(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(PROTOCOL)
    (tmp_path / "both.yaml").write_text(SUITE)
    assert adm("run", "both.yaml", "--store", "runs", "--device", "cpu", "--executor", "inline", cwd=tmp_path).code == 0
    found = [json.loads(file.read_text()) for file in (tmp_path / "runs" / "records").glob("*.json")]
    teacher = next(record for record in found if record["cell"]["regime"] == "alone")
    students = [record for record in found if record["cell"]["regime"] == "offline"]
    assert len(students) == 3
    for record in students:
        assert record["teacher"]["digest"] == teacher["weights"]["student"]
        curve = record["curves"]["validation.teacher.top1"]
        assert len(curve) == 2 and len(set(curve)) == 1
        assert record["cost"]["step_ms"] > 0 and record["cost"]["peak_memory_mb"] > 0
    scores = [record["scores"]["teacher"] for record in students]
    assert scores[0] == scores[1] == scores[2] and scores[0]["top1"] == teacher["scores"]["student"]["top1"]
    kept = list((tmp_path / "runs" / "artefacts" / "scores").glob("*.safetensors"))
    assert len(kept) == 2  # one for each split, and none of the average that ema-teacher deploys
