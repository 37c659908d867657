"""What the tests of records and leaderboards share; cells and records are made by ``factory``."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.records.store import Store
from results.report import Results
from results.tables import claims
from tests.results import golden_suite


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "runs")


@pytest.fixture
def golden(monkeypatch: pytest.MonkeyPatch) -> Results:
    """The fixed suite of the golden files, with the published figures of the tests' own."""
    monkeypatch.setattr(claims, "load_claims", golden_suite.claims)
    return golden_suite.results()
