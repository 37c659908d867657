"""The records that are made again are those of the repository, and the same bits are asked for only where promised."""

import json

import pytest

from suites.spec.expand import expand
from tests import made_again


@pytest.mark.parametrize("suite", made_again.CELLS)
def test_each_cell_stands_in_its_leaderboard(suite):
    planned = made_again.cell_of(expand(suite), made_again.CELLS[suite])
    assert planned.teacher is None
    assert (made_again.LEADERBOARDS / suite / "records" / f"{planned.id}.json").exists()


def test_there_is_one_of_each_task():
    tasks = {made_again.cell_of(expand(suite), wanted).cell.task for suite, wanted in made_again.CELLS.items()}
    assert tasks == {"classification", "segmentation", "diffusion"}


def test_nothing_is_asked_of_other_processors_and_other_versions_of_torch(tmp_path, monkeypatch):
    record = tmp_path / "record.json"
    own = {"torch": f"{made_again.version('torch')}", "device": "AMD EPYC"}
    record.write_text(json.dumps({"environment": own}))
    monkeypatch.setattr(made_again, "instructions", lambda: frozenset({"avx2"}))
    monkeypatch.setattr("adm_core.cpu.told", lambda: {"model name": "AMD Ryzen 9 7950X 16-Core Processor"})
    assert made_again.why_not([record]) is None
    monkeypatch.setattr("adm_core.cpu.told", lambda: {"model name": "Intel(R) Xeon(R) Processor @ 2.50GHz"})
    assert "made on AMD EPYC; no bits are promised on Intel's processors" in made_again.why_not([record])
    monkeypatch.setattr("adm_core.cpu.told", lambda: {"model name": "AMD EPYC"})
    monkeypatch.setattr(made_again, "version", lambda _: "2.99.0+cpu")
    assert "here is 2.99.0" in made_again.why_not([record])
    monkeypatch.setattr(made_again, "instructions", frozenset)
    assert "x86" in made_again.why_not([record])
