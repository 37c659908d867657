"""``adm tune`` with real trainings: begun, gone on with, and its outcome used by the suite and told in its table."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import adm, refusal

MINE = """title: Mine
chosen: {chosen}
blocks:
  - title: Offline
    task: classification
    benchmark: digit-scenes@1
    protocol: smoke
    pairs: [resnet8w8s2 > resnet8w8s2]
    regime: offline
    methods: [none, kd]
    seeds: [0]
"""
INLINE = ("--device", "cpu", "--executor", "inline")


def test_trials_are_trained_gone_on_with_and_used(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MINE.format(chosen="as published"))
    command = ("tune", "mine.yaml", "--trials", 2, "--seeds", 1)
    dry = adm(*command, "--dry-run", cwd=tmp_path)
    assert dry.code == 0 and "4 to do" in dry.out and not (tmp_path / "runs").exists()

    part = adm(*command, *INLINE, "--only", "label=kd", cwd=tmp_path)
    assert part.code == 1 and "Offline, none: 1 of 1 trainings are missing" in part.err
    assert not (tmp_path / "tuned").exists()
    begun = {file: file.read_bytes() for file in (tmp_path / "runs" / "records").iterdir()}

    whole = adm(*command, *INLINE, cwd=tmp_path)
    assert whole.code == 0, whole.err
    assert len(begun) == 2 and all(file.read_bytes() == text for file, text in begun.items())
    text = (tmp_path / "tuned" / "mine.yaml").read_bytes()
    assert adm(*command, *INLINE, cwd=tmp_path).code == 0
    assert (tmp_path / "tuned" / "mine.yaml").read_bytes() == text

    (tmp_path / "mine.yaml").write_text(MINE.format(chosen="tuned/mine.yaml"))
    assert adm("run", "mine.yaml", *INLINE, "--only", "method=none", cwd=tmp_path).code == 0
    row = json.loads((tmp_path / "runs" / "suites" / "mine.json").read_text())["rows"][0]
    assert row["chosen"] == "as stated, nothing searched"
    report = adm("report", "mine", cwd=tmp_path)
    assert "as stated, nothing searched" in report.out


def test_what_cannot_be_tuned_is_refused(tmp_path: Path) -> None:
    assert refusal("tune", "smok", "--trials", 2) == "unknown suite 'smok'; did you mean smoke?"
    assert "tune each of them: adm-alone" in refusal("tune", "adm-evidence", "--trials", 2)
    assert "needs --executor local" in refusal("tune", "smoke", "--trials", 2, *INLINE, "--group", 2, cwd=tmp_path)
    few = adm("tune", "smoke", "--trials", 0)
    assert few.code == 2 and "greater than or equal to 1" in few.err
