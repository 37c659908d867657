"""A row that trains as long as the dearest other one costs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adm_core import registry
from adm_core.errors import AdmError, Unsupported
from results.records.schema import MethodPart, Stretch
from suites.spec.expand import PlannedCell, expand
from suites.work.folder import WorkFolder
from suites.work.options import RunOptions
from suites.worker import stretching
from suites.worker.training import train_cell

PROTOCOL = """
title: two epochs on very few images
source: tests
task: classification
recipe: {epochs: 2, batch_size: 32, optimizer: {name: sgd, lr: 0.05}, schedule: {name: step, milestones: [1]}}
data: {train_limit: 64, test_limit: 64, crop_padding: 3, flip: false}
"""
SUITE = """
title: controls
blocks:
  - title: Offline
    task: classification
    benchmark: digit-scenes@1
    protocol: ./recipe.yaml
    pairs: [resnet14w16s2 > resnet8w8s2]
    regime: offline
    methods: [none, kd, fitnet, rdd, {method: none, stretch: match, label: matched},
              {method: none, stretch: 1.6, label: longer}]
    seeds: [0, 1]
"""


def train(planned: PlannedCell, store: Path) -> dict[str, Any]:
    work = WorkFolder.of(store, planned.id)
    work.path.mkdir(parents=True, exist_ok=True)
    return train_cell(planned.cell, planned.protocol, work.path, RunOptions(device="cpu", store=store), lambda _: None)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the trained teacher of the suite beside it."""
    folder = tmp_path_factory.mktemp("controls")
    (folder / "recipe.yaml").write_text(PROTOCOL)
    (folder / "mine.yaml").write_text(SUITE)
    teacher = expand(str(folder / "mine.yaml")).rows[0].teacher
    assert teacher is not None
    train(teacher, folder)
    return folder


def cells(store: Path, seed: int = 0) -> dict[str, PlannedCell]:
    return {row.label: row for row in expand(str(store / "mine.yaml")).rows if row.cell.seed == seed}


def test_it_trains_as_many_epochs_as_cost_what_the_dearest_does(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = cells(store)
    cost = {label: train(rows[label], store)["cost"]["flops"]["training"] for label in ("none", "kd", "fitnet")}
    assert cost["none"] < cost["kd"] < cost["fitnet"]
    factor = cost["fitnet"] / cost["none"]  # 'rdd' does not run on these networks

    matched = train(rows["matched"], store)
    assert matched["stretched"] == {"factor": pytest.approx(factor), "epochs": round(2 * factor), "dearest": "fitnet"}
    assert len(matched["curves"]["epoch"]) == round(2 * factor)
    falls = [lr > 0.01 for lr in matched["curves"]["lr"]]
    assert falls.count(True) == pytest.approx(len(falls) / 2, abs=0.5)  # its milestone has moved along

    monkeypatch.setattr(stretching, "training_flops", None)  # another seed counts nothing anew
    assert train(cells(store, 1)["matched"], store)["stretched"] == matched["stretched"]


def test_what_counting_took_is_not_the_cell_s_memory(store: Path) -> None:
    """In a process that keeps freed memory, as workers do on a CPU: it used to keep that of every counted trainer."""
    script = f"""
from pathlib import Path
import torch
from suites.spec.expand import expand
from suites.work.options import RunOptions
from suites.worker import stretching
from adm_core import freed_memory

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

def counted(*_):  # as much as a trainer of many large maps
    taken, _ = torch.ones(200, 2**18), held()
    return 1.0

freed_memory.keep()
stretching._flops = counted
cell = next(row for row in expand("{store / "mine.yaml"}").rows if row.label == "matched")
before = held()
stretching.stretched(cell.cell, cell.protocol, torch.device("cpu"), RunOptions(device="cpu", store="{store}"))
print(held() - before)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 50  # of 200 MiB


def test_a_factor_is_taken_as_it_is(store: Path) -> None:
    longer = train(cells(store)["longer"], store)
    assert longer["stretched"] == {"factor": 1.6, "epochs": 3, "dearest": None}
    assert len(longer["curves"]["epoch"]) == 3


def test_where_nothing_that_it_is_to_match_runs_it_is_skipped_with_the_reason(store: Path) -> None:
    row = cells(store)["matched"]
    cell = row.cell.model_copy(update={"stretch": Stretch(match=((MethodPart(name="rdd", version=1),),))})
    with pytest.raises(Unsupported, match="none of the 1 methods that it is to match runs on resnet14w16s2 > resnet8"):
        stretching.stretched(cell, row.protocol, stretching.torch.device("cpu"), RunOptions(device="cpu", store=store))


def test_one_that_cannot_be_trained_so_is_named(store: Path) -> None:
    """MCL's balanced batches of 32 want 16 classes; the message told of those, in a row that has none."""
    row = cells(store)["matched"]
    mcl = MethodPart(name="mcl", version=registry.get("mcl").card.version)
    given = {"regime": "peers", "teacher": None, "stretch": Stretch(match=((mcl,),))}
    with pytest.raises(AdmError, match=r"^'mcl', which its training is to match, cannot be trained: batches of 2 exam"):
        stretching.stretched(
            row.cell.model_copy(update=given),
            row.protocol,
            stretching.torch.device("cpu"),
            RunOptions(device="cpu", store=store),
        )


def test_a_trained_cell_whose_operations_cannot_be_counted_is_kept(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> float:
        raise NotImplementedError("an operation of its own")

    monkeypatch.setattr(stretching, "training_flops", refuse)
    row = expand(str(store / "mine.yaml")).rows[0].teacher
    assert row is not None
    other = row.cell.model_copy(update={"seed": 5})
    shutil.rmtree(store / "artefacts" / "training-flops", ignore_errors=True)
    work = WorkFolder.of(store, other.id)
    work.path.mkdir(parents=True, exist_ok=True)
    made = train_cell(other, row.protocol, work.path, RunOptions(device="cpu", store=store), lambda _: None)
    assert made["cost"]["flops"]["training"] is None and made["scores"]["student"]["top1"] is not None
    assert "an operation of its own" in capsys.readouterr().err
