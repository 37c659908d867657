"""A small real suite under noise and under a shift, from the file to the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import adm

SUITE = """title: Under conditions
blocks:
  - title: Wrong labels
    task: classification
    benchmark: digit-scenes@1
    condition: {noise: {kind: instance, rate: 0.25}}
    protocol: smoke
    pairs: [resnet14w16s2 > resnet8w8s2]
    regime: offline
    methods: [none, kd]
    seeds: [0]
  - title: Other pictures
    task: classification
    benchmark: digit-scenes@1
    condition: {shift: {corruptions: [gaussian-noise, contrast], severity: 5}}
    protocol: smoke
    pairs: [resnet14w16s2 > resnet8w8s2]
    regime: offline
    methods:
      - none
      - follow
      - {method: clda, settings: {clda: {adapt: true, confidence: 0.2, probe: 2, teach: 2}}}
      - {method: pets, settings: {pets: {adapt: true, confidence: 0.2}}}
    seeds: [0]
"""
METHOD = '''
from adm_core import Losses, Method, MethodCard, Needs, register


@register
class Follow(Method):
    """Squared distance to the teacher on pictures without labels."""

    card = MethodCard("follow", "Follow", "none", 2026, frozenset({"offline"}), "logits")
    needs = Needs(prediction="class_logits", unlabelled=True)

    def losses(self, student, teacher, step):
        shown = step.unlabelled
        return Losses(student={"follow": (shown["student"].prediction - shown["teacher"].prediction).pow(2).mean()})
'''


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conditions")
    (folder / "mine.yaml").write_text(SUITE)
    (folder / "follow.py").write_text(METHOD)
    told = ("--store", folder / "runs", "--device", "cpu", "--executor", "inline")
    assert adm("run", folder / "mine.yaml", "--method-file", folder / "follow.py", *told).code == 0
    return folder / "runs"


def test_records_tell_the_condition_and_what_came_of_it(store: Path) -> None:
    records = [json.loads(file.read_text()) for file in (store / "records").glob("*.json")]
    noisy = [record for record in records if "noise" in record["cell"]["condition"]]
    shifted = [record for record in records if "shift" in record["cell"]["condition"]]
    assert (len(noisy), len(shifted)) == (3, 5) and all(record["status"] == "ok" for record in records)
    assert {record["cell"]["regime"] for record in noisy} == {"alone", "offline"}
    assert len({json.dumps(record["noisy_labels"]) for record in noisy}) == 1
    labels = noisy[0]["noisy_labels"]
    assert (labels["flipped"], labels["examples"]) == (160, 640)
    assert all(0 <= record["scores"]["student"]["memorised"] <= 100 for record in noisy)
    assert all("noisy_labels" not in record for record in shifted)
    assert all("memorised" not in record["scores"]["student"] for record in shifted)
    by_method = {each["cell"]["method"][0]["name"]: each for each in shifted if each["cell"]["regime"] == "offline"}
    assert by_method["follow"]["capabilities"] == ["unlabelled"]
    for name in ("clda", "pets"):
        assert {"network-copies", "unlabelled"} < set(by_method[name]["capabilities"])
        assert by_method[name]["scores"]["student"] != by_method["none"]["scores"]["student"]
    assert len({record["data_digest"] for record in noisy}) == len({record["data_digest"] for record in shifted}) == 1
    assert noisy[0]["data_digest"] != shifted[0]["data_digest"]


def test_the_report_keeps_conditions_apart_and_names_them(store: Path) -> None:
    out = " ".join(adm("report", "mine", "--store", store).out.split())
    assert "digit-scenes@1 · instance label noise 0.25 · smoke" in out
    assert "digit-scenes@1 · shift to contrast, gaussian-noise at severity 5 · smoke" in out
