"""Finished cells opened again: what a method deploys instead of the student, and its own way of sampling it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command_line import adm

from adm_core.reuse import ReusedClassifier
from results.records.store import Store
from suites.look.trained import TrainedCells

RECIPE = """title: two batches
source: tests
task: classification
recipe: {epochs: 1, batch_size: 64, optimizer: {name: adamw, lr: 0.004}}
data: {train_limit: 128, test_limit: 120, crop_padding: 1, flip: false}
"""
SUITE = """title: A student with its teacher's classifier
blocks:
  - title: Offline
    task: classification
    benchmark: digit-scenes@1
    protocol: ./recipe.yaml
    pairs: [resnet8w12s2 > resnet8w8s2]
    regime: offline
    methods: [kd, simkd]
    seeds: [0]
"""


def test_what_is_deployed_is_scored_counted_saved_and_opened_again(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "mine.yaml").write_text(SUITE)
    store = Store(tmp_path / "runs")
    answer = adm("run", tmp_path / "mine.yaml", "--store", store.root, "--executor", "inline", "--device", "cpu")
    assert answer.code == 0, answer
    records = {row.label: store.read_record(row.id) for row in store.read_manifest("mine").rows}
    cells = TrainedCells(store, "cpu")
    found = {}
    for label in ("kd", "simkd"):
        record = records[label]
        assert record is not None and record.cost is not None
        networks = cells.networks(record.cell)
        student = networks["student"].module.eval()
        scores = cells.task(record.cell).evaluate(networks, "test")
        assert scores["student"]["top1"] == pytest.approx(record.score("student", "top1"))
        assert record.cost.parameters["student"] == sum(p.numel() for p in student.parameters())
        found[label] = student
    assert isinstance(found["simkd"], ReusedClassifier)
    body, added = found["kd"], found["simkd"]
    own = sum(p.numel() for p in body.parameters()) - sum(p.numel() for p in body.head.parameters())
    further = sum(p.numel() for m in (added.projector, added.head) for p in m.parameters())
    assert sum(p.numel() for p in added.parameters()) == own + further
    teacher = cells.networks(records["simkd"].cell)["teacher"].module  # type: ignore[union-attr]
    assert torch.equal(added.head.weight, teacher.head.weight)
    inner, width, places = 24, 48, 4 * 4
    projection = 2 * places * (32 * inner + 9 * inner * inner + inner * width)
    difference = 2 * 10 * (width - 32) + projection
    flops = {label: record.cost.flops["student"] for label, record in records.items()}  # type: ignore[union-attr]
    assert flops["simkd"] - flops["kd"] == difference


DENOISING = """title: two batches
source: tests
task: diffusion
recipe: {epochs: 1, batch_size: 64, optimizer: {name: adamw, lr: 0.004}}
data:
  train_limit: 128
  noise: {schedule: cosine, timesteps: 100, prediction: v_prediction}
  sampling: {steps: 2, samples: 70}
"""
SAMPLED = """title: A student that is sampled as consistency models are
blocks:
  - title: Offline
    task: diffusion
    benchmark: digits@2
    protocol: ./recipe.yaml
    pairs: [unet-w8 > unet-w8]
    regime: offline
    methods: [{method: ect, settings: {ect: {sampler: multistep}}}]
    seeds: [0]
"""


def test_a_student_that_is_sampled_in_a_way_of_its_own_is_so_when_it_is_opened_again(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(DENOISING)
    (tmp_path / "mine.yaml").write_text(SAMPLED)
    store = Store(tmp_path / "runs")
    answer = adm("run", tmp_path / "mine.yaml", "--store", store.root, "--executor", "inline", "--device", "cpu")
    assert answer.code == 0, answer
    (row,) = store.read_manifest("mine").rows
    record, cells = store.read_record(row.id), TrainedCells(store, "cpu")
    assert record is not None and "own-sampler" in record.capabilities
    networks = cells.networks(record.cell)
    scores = cells.task(record.cell).evaluate(networks, "test")
    assert scores["student"]["frechet"] == pytest.approx(record.score("student", "frechet"))
    assert (networks["student"].sampler, networks["teacher"].sampler) == ("multistep", "ddim")
