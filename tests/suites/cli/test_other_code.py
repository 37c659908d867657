"""A plug-in that is edited between two runs: told, never stitched, trained anew where that is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import adm

from adm_core import registry
from suites.spec.expand import expand
from suites.work.folder import Assignment, WorkFolder
from suites.work.options import RunOptions
from suites.worker.entry import run_cell

SUITE = """title: none and a plug-in
blocks:
  - title: b
    task: classification
    benchmark: digit-scenes@1
    protocol: ./two.yaml
    pairs: [resnet8w8s2 > resnet8w8s2]
    regime: offline
    methods: [none, my-kd]
    seeds: [0]
"""
PROTOCOL = """title: two epochs
source: tests
task: classification
recipe: {epochs: 2, batch_size: 64, optimizer: {name: sgd, lr: 0.1}}
data: {train_limit: 128, test_limit: 64}
"""
PLUGIN = """
from adm_core import AdmError, Losses, Method, MethodCard, Needs, register


@register
class MyKD(Method):
    card = MethodCard("my-kd", "Mine", "none", 2026, frozenset({{"offline"}}), "logits")
    needs = Needs(prediction="class_logits")

    def losses(self, student, teacher, step):
        if step.progress >= {until}:
            raise AdmError("enough")
        gap = (student.prediction - teacher.detached().prediction).pow(2).mean()
        return Losses(student={{"mse": {factor} * gap}})
"""
RUN = ("--store", "runs", "--method-file", "my_kd.py", "--device", "cpu")
TRAIN = (*RUN, "--executor", "inline")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "two.yaml").write_text(PROTOCOL)
    (tmp_path / "stale.yaml").write_text(SUITE)
    return tmp_path


def edit(folder: Path, factor: float, until: float = 2.0) -> None:
    (folder / "my_kd.py").write_text(PLUGIN.format(factor=factor, until=until))


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """Records by regime and method."""
    read = [json.loads(file.read_text()) for file in (folder / "runs" / "records").glob("*.json")]
    return {f"{each['cell']['regime']} {each['cell']['method'][0]['name']}": each for each in read}


def test_plan_and_run_say_that_a_plug_in_changed_and_fresh_trains_its_cells_anew(folder: Path) -> None:
    edit(folder, 1.0)
    assert adm("run", "stale.yaml", *TRAIN, cwd=folder).code == 0
    first = records(folder)
    assert set(first["offline my-kd"]["code"]) == {"adm_core", "tasks/classification", "method my-kd", "method none"}
    edit(folder, 50.0)
    told = "trained by other code: 1 cell (method my-kd); adm run --fresh trains anew"
    assert told in adm("plan", "stale.yaml", *RUN, cwd=folder).out
    again = adm("run", "stale.yaml", *TRAIN, cwd=folder)
    assert again.code == 0 and told in again.out and "nothing to do" in again.out
    assert records(folder) == first
    planned = adm("plan", "stale.yaml", *RUN, "--fresh", "--json", cwd=folder).json
    assert [(row["label"], row["other_code"]) for row in planned["cells"] if row["open"]] == [
        ("my-kd", ["method my-kd"])
    ]
    assert adm("run", "stale.yaml", *TRAIN, "--fresh", cwd=folder).code == 0
    second = records(folder)
    assert second["offline my-kd"]["scores"] != first["offline my-kd"]["scores"] or (
        second["offline my-kd"]["curves"] != first["offline my-kd"]["curves"]
    )
    assert {key: second[key] for key in ("alone none", "offline none")} == {
        key: first[key] for key in ("alone none", "offline none")
    }
    assert "other code" not in adm("plan", "stale.yaml", *RUN, cwd=folder).out


def test_a_failed_cell_does_not_go_on_from_a_checkpoint_of_the_old_loss(folder: Path) -> None:
    def train(factor: float, until: float, store: str) -> dict[str, Any]:
        edit(folder, factor, until)
        forget()
        registry.load_file(folder / "my_kd.py")
        for planned in (planned for planned in expand(str(folder / "stale.yaml")).cells):
            if planned.cell.regime == "alone" or planned.cell.method_name == "my-kd":
                work = WorkFolder.of(folder / store, planned.id)
                options = RunOptions(
                    device="cpu", store=folder / store, checkpoint_seconds=0, method_files=(folder / "my_kd.py",)
                )
                work.assign(Assignment(cell=planned.cell, protocol=planned.protocol, options=options))
                run_cell(work)
        outcome = work.outcome()
        assert outcome is not None
        return outcome

    try:
        assert train(1.0, 0.5, "runs")["reason"] == "enough"
        mended, whole = train(50.0, 2.0, "runs"), train(50.0, 2.0, "whole")
        assert mended["curves"] == whole["curves"] and mended["scores"] == whole["scores"]
        assert mended["remark"] == "started over: the checkpoint is of other code (method my-kd)"
        assert whole["remark"] is None and mended["code"] == whole["code"]
    finally:
        forget()


def forget() -> None:
    """Let the next reading of the plug-in be the first, as in a process of its own."""
    import sys

    registry._known.pop("my-kd", None)
    for name in [name for name in sys.modules if name.startswith("adm_method_")]:
        del sys.modules[name]
