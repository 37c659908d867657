"""A small suite of the tests' own, whose training is done by ``suite_test_worker``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from results.records.store import Store
from suites.spec.expand import expand

_HERE = Path(__file__).resolve().parent
ROOT = _HERE.parents[1]
sys.path.insert(0, str(_HERE))

PROTOCOL = """
title: a test's recipe
source: tests
task: classification
recipe: {epochs: 12, batch_size: 8, optimizer: {name: sgd, lr: 0.1}}
"""

SUITE = """
title: a test's suite
blocks:
  - title: Online
    task: classification
    benchmark: digit-scenes@1
    protocol: ./recipe.yaml
    pairs: [resnet20 > resnet8]
    regime: online
    methods: [none, dml]
    seeds: [0, 1]
  - title: Offline
    task: classification
    benchmark: digit-scenes@1
    protocol: ./recipe.yaml
    pairs: [resnet20 > resnet8]
    regime: offline
    methods: [none, kd]
    seeds: [0, 1]
"""

SHARED_PROTOCOL = """
title: two micro-batches a step
source: tests
task: classification
recipe: {epochs: 2, batch_size: 32, accumulate: 2, optimizer: {name: sgd, lr: 0.05}}
data: {train_limit: 64, test_limit: 64}
"""

SHARED_SUITE = """
title: cells that two processes train
blocks:
  - title: Online
    task: classification
    benchmark: digit-scenes@1
    protocol: ./shared.yaml
    pairs: [resnet14w16s2 > resnet8w8s2]
    regime: online
    methods: [dml]
    seeds: [0]
"""


@pytest.fixture
def write_suite(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a suite's text beside the test protocol and returns its file."""

    def write(text: str = SUITE) -> Path:
        (tmp_path / "recipe.yaml").write_text(PROTOCOL)
        file = tmp_path / "mine.yaml"
        file.write_text(text)
        return file

    return write


@pytest.fixture
def suite(write_suite: Callable[[str], Path]) -> Path:
    """The small suite's file."""
    return write_suite(SUITE)


@pytest.fixture
def shared_suite(tmp_path: Path) -> Path:
    """The file of a suite of one cell, which is really trained and whose batches two processes may share."""
    (tmp_path / "shared.yaml").write_text(SHARED_PROTOCOL)
    file = tmp_path / "shared-suite.yaml"
    file.write_text(SHARED_SUITE)
    return file


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, with the test worker where child processes find it."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(_HERE), str(ROOT)]))
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.fixture
def behave(store: Path) -> Callable[..., None]:
    """Tells the test worker which cells meet with which accident: ``behave({"kd/0": "exit"})``."""

    def tell(accidents: dict[str, str]) -> None:
        (store / "behaviour.json").write_text(json.dumps(accidents))

    return tell


def scores(store: Path) -> dict[str, str]:
    """Scores of every record as text, by cell."""
    return {
        path.stem: json.dumps([json.loads(path.read_text())[key] for key in ("status", "scores")])
        for path in (store / "records").glob("*.json")
    }


def likelihoods(suite: Path, store: Path) -> tuple[list[float], str]:
    """Negative log-likelihoods of student and teacher of a suite's one cell, and the device that its record tells."""
    (cell,) = expand(str(suite)).cells
    found = Store(store).read_record(cell.id)
    assert found is not None and found.status == "ok", found
    return [scores["nll"] for scores in found.scores.values()], found.environment["device"]


def starts(store: Path) -> list[str]:
    """Cells in the order in which trainings began."""
    file = store / "starts.txt"
    return file.read_text().split() if file.exists() else []
