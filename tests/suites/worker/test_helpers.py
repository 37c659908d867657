"""A cell that a worker trains with a helper leaves what it leaves alone, whatever happens to either."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adm_core import registry
from suites.spec.expand import PlannedCell, expand
from suites.work.folder import CHECKPOINT, Assignment, WorkFolder
from suites.work.options import RunOptions
from suites.worker.entry import run_cell
from tests.processes import alive, descendants, wait_for

PROTOCOL = """
title: four micro-batches a step
source: tests
task: classification
recipe: {epochs: 2, batch_size: 32, accumulate: 4, optimizer: {name: sgd, lr: 0.05}, selection: best-validation}
data: {train_limit: 96, test_limit: 64, validation: 0.2}
"""
SUITE = """
title: pairs
blocks:
  - title: Online
    task: classification
    benchmark: digit-scenes@1
    protocol: ./recipe.yaml
    pairs: [resnet14w16s2 > resnet8w8s2]
    regime: online
    methods: [dml+adm, slow, fails]
    seeds: [0]
"""
METHODS = """
import time, torch
from adm_core.errors import AdmError
from adm_core.method import Losses, Method, MethodCard
from adm_core.registry import register

class Base(Method):
    def losses(self, student, teacher, step):
        self.meanwhile()
        return Losses(student={"mse": (student.prediction - teacher.detached().prediction).pow(2).mean()})

@register
class Slow(Base):
    card = MethodCard("slow", "Slow", "none", 2026, frozenset({"online"}), "logits")
    def meanwhile(self):
        time.sleep(0.2)

@register
class Fails(Base):
    card = MethodCard("fails", "Fails", "none", 2026, frozenset({"online"}), "logits")
    def meanwhile(self):
        if torch.distributed.get_rank() == 1:
            raise AdmError("the second process has had enough")
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, PlannedCell], Path]]:
    """The cells by method, and the file of the methods, known while this module's tests run."""
    home = tmp_path_factory.mktemp("together")
    (home / "recipe.yaml").write_text(PROTOCOL)
    (home / "mine.yaml").write_text(SUITE)
    (home / "methods.py").write_text(METHODS)
    yield {row.label: row for row in expand(str(home / "mine.yaml"), [home / "methods.py"]).rows}, home / "methods.py"
    for name in ("slow", "fails"):  # these alone: methods of the house that were first asked for here stay known
        del registry._known[name]


def assign(given: tuple[dict[str, PlannedCell], Path], method: str, store: Path, processes: int = 2) -> WorkFolder:
    planned, file = given[0][method], given[1]
    folder = WorkFolder.of(store, planned.id)
    options = RunOptions(
        store=store, device="cpu", gpus_per_cell=processes, method_files=(file,), checkpoint_seconds=0.0, curves=True
    )
    folder.assign(Assignment(cell=planned.cell, protocol=planned.protocol, options=options))
    return folder


def start(folder: WorkFolder) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "suites.worker", str(folder.path), "--parent", str(os.getpid())]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def test_two_processes_leave_what_one_leaves(given: tuple[dict[str, PlannedCell], Path], tmp_path: Path) -> None:
    """And one outcome, of the first, in which the device is told twice."""
    made, before = {}, set(descendants(os.getpid()))  # a cluster of other tests may be among them
    for count in (1, 2):
        folder = assign(given, "dml+adm", tmp_path / str(count), count)
        run_cell(folder)
        outcome = folder.outcome()
        assert outcome is not None and outcome["status"] == "ok", outcome
        made[count] = outcome, load_file(folder.weights), load_file(folder.teacher_weights)
    (alone, *states), (together, *others) = made[1], made[2]
    for state, other in zip(states, others, strict=True):
        for name, value in state.items():
            torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4, msg=name)
    # Continuous ones: a hit more or less, or another bin, is what rounding may do to the others.
    for role, scores in alone["scores"].items():
        assert together["scores"][role]["nll"] == pytest.approx(scores["nll"], rel=1e-3), role
    for name in (name for name in alone["curves"] if name.startswith("train.")):
        assert together["curves"][name] == pytest.approx(alone["curves"][name], rel=1e-3, abs=1e-5), name
    assert folder.curves() == together["curves"]  # which trackers read; of the first process alone
    assert together["environment"]["device"] == f"2 × {alone['environment']['device']}"
    assert together["cost"]["flops"] == alone["cost"]["flops"]
    assert before.issuperset(descendants(os.getpid()))


def test_a_helper_that_fails_tells_why(given: tuple[dict[str, PlannedCell], Path], tmp_path: Path) -> None:
    folder = assign(given, "fails", tmp_path)
    worker = start(folder)
    told = worker.communicate(timeout=120)[1].decode()
    assert worker.returncode == 0
    outcome = folder.outcome()
    assert outcome is not None
    assert (outcome["status"], outcome["reason"]) == ("error", "the second process has had enough"), told
    assert "another process that trains this cell has ended" in told


def test_a_helper_that_is_killed_takes_the_worker_with_it(
    given: tuple[dict[str, PlannedCell], Path], tmp_path: Path
) -> None:
    """In the same way, so that a kill for lack of memory is told as one; what was trained stays."""
    folder = assign(given, "slow", tmp_path)
    worker = start(folder)
    wait_for(lambda: (folder.path / CHECKPOINT).exists(), 120)
    (helper,) = descendants(worker.pid)
    os.kill(helper, signal.SIGKILL)
    worker.communicate(timeout=60)
    assert worker.returncode == -signal.SIGKILL and folder.outcome() is None


def test_a_worker_that_is_asked_to_end_stops_all_and_they_go_on(
    given: tuple[dict[str, PlannedCell], Path], tmp_path: Path
) -> None:
    folder = assign(given, "slow", tmp_path)
    worker = start(folder)
    wait_for(lambda: (folder.path / CHECKPOINT).exists(), 120)
    (helper,) = descendants(worker.pid)
    worker.terminate()
    told = worker.communicate(timeout=60)[1].decode()
    assert worker.returncode == 0 and folder.outcome() is None and not alive(helper)
    assert told.count("stopped in epoch") >= 1 and "Traceback" not in told
    again = start(folder)
    told = again.communicate(timeout=120)[1].decode()
    assert (folder.outcome() or {}).get("status") == "ok", told


def test_a_worker_that_is_killed_leaves_no_helper(given: tuple[dict[str, PlannedCell], Path], tmp_path: Path) -> None:
    worker = start(assign(given, "slow", tmp_path))
    wait_for(lambda: bool(descendants(worker.pid)), 60)
    (helper,) = descendants(worker.pid)
    worker.kill()
    worker.communicate(timeout=60)
    wait_for(lambda: not alive(helper))
