"""Two suite files of one name never share a manifest, and so a leaderboard, without a word."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import adm, refusal
from drive import ONE_CELL

from results.records.store import Store
from suites.spec.expand import expand
from tests.suites.plan.test_plan import finish

TWO_SEEDS = ONE_CELL.replace("seeds: [0]", "seeds: [0, 1]")


@pytest.fixture
def run(tmp_path: Path):
    """Runs a suite file of a given text, whose cells are all done, into one store."""

    def command(text: str, folder: str = "here", name: str = "mine", tell=adm):
        file = tmp_path / folder / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        for row in expand(str(file)).rows:
            finish(row, tmp_path / "runs")
        return tell("run", file, "--store", tmp_path / "runs", "--device", "cpu", "--executor", "inline")

    return command


def test_an_edited_suite_keeps_its_name_and_tells_what_it_has_lost(run, tmp_path: Path) -> None:
    assert run(ONE_CELL).code == run(TWO_SEEDS).code == 0
    answer = run(ONE_CELL)
    assert (
        answer.code == 0
        and answer.err == "no longer in 'mine', which had them before: 1 of its cells; their records stay\n"
    )
    assert run(ONE_CELL.replace("title: one cell", "title: another title")).code == 0
    assert len(Store(tmp_path / "runs").read_manifest("mine").rows) == 1
    assert len(Store(tmp_path / "runs").ids()) == 2


@pytest.mark.parametrize(("first", "second"), [(ONE_CELL, TWO_SEEDS), (TWO_SEEDS, ONE_CELL)])
def test_another_suite_of_the_name_is_refused(run, tmp_path: Path, first: str, second: str) -> None:
    assert run(first).code == 0
    told = run(second.replace("title: one cell", "title: somebody's"), "there", tell=refusal)
    assert "holds another suite of the name 'mine', titled 'one cell', here it is 'somebody's'" in told
    assert "rename the file or give another --store" in told
    assert Store(tmp_path / "runs").read_manifest("mine").title == "one cell"
    Store(tmp_path / "runs").manifest_path("mine").write_text("{")  # a damaged one is in nobody's way
    assert run(second).code == 0


def test_a_file_of_ones_own_does_not_take_the_name_of_a_suite_of_the_benchmark(run) -> None:
    told = run(ONE_CELL, name="quick", tell=refusal)
    assert "'quick' is a suite of the benchmark, and this file is another one; rename the file" in told
