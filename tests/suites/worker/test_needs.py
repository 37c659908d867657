"""A method that asks for batches which a task does not make gives a skipped cell with that reason, and no error."""

from __future__ import annotations

from pathlib import Path

import pytest

from suites.spec.expand import expand
from suites.work.folder import Assignment, WorkFolder
from suites.work.options import RunOptions
from suites.worker.entry import run_cell

SUITE = """
title: a method on a task that it cannot run on
blocks:
  - title: One cell
    task: {task}
    benchmark: {benchmark}
    protocol: {protocol}
    pairs: [{pair}]
    regime: {regime}
    methods: [{method}]
    seeds: [0]
"""
SEGMENTATION = {"task": "segmentation", "benchmark": "shape-scenes@3", "protocol": "shape-scenes-quick"}
SEGMENTATION |= {"pair": "pspnet-r18w16 > pspnet-r18w8"}
DIFFUSION = {"task": "diffusion", "benchmark": "digits@2", "protocol": "digits-quick", "pair": "unet-w16 > unet-w8"}


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (
            SEGMENTATION | {"method": "mlkd", "regime": "offline"},
            "the method needs a second, strong view, which segmentation does not have",
        ),
        (
            DIFFUSION | {"method": "mlkd", "regime": "offline"},
            "the method reads class_logits, this task predicts denoiser",
        ),
        (
            SEGMENTATION | {"method": "mcl", "regime": "online"},
            "the method needs batches with balanced classes, which segmentation does not draw",
        ),
    ],
    ids=["mlkd-segmentation", "mlkd-diffusion", "mcl-segmentation"],
)
def test_a_need_that_a_task_cannot_meet_skips_the_cell(tmp_path: Path, block: dict[str, str], reason: str) -> None:
    file = tmp_path / "suite.yaml"
    file.write_text(SUITE.format(**block))
    (planned,) = (row for row in expand(str(file)).rows if row.cell.method_name == block["method"])
    assert planned.skipped == reason  # the plan tells the same
    folder = WorkFolder.of(tmp_path / "store", planned.id)
    options = RunOptions(device="cpu", store=tmp_path / "store")
    folder.assign(Assignment(cell=planned.cell, protocol=planned.protocol, options=options))
    run_cell(folder)
    outcome = folder.outcome()
    assert outcome is not None and (outcome["status"], outcome["reason"]) == ("skipped", reason)
