"""A small suite of the tests' own, whose training is done by ``suite_test_worker``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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


def starts(store: Path) -> list[str]:
    """Cells in the order in which trainings began."""
    file = store / "starts.txt"
    return file.read_text().split() if file.exists() else []
