"""``adm export`` on stores that hold records and nothing else."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from command_line import Answer, adm

from tests.results.factory import one_block, write

ROOT = Path(__file__).resolve().parents[3]
QUICK = ROOT / "results" / "leaderboards" / "quick"
TRAINED = len(list((QUICK / "records").glob("*.json")))  # one of them is the teacher, which stands in no table
NAMES = ("scores", "cost", "curves")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A store with one suite, of which a cell failed."""
    return write(tmp_path / "runs", *one_block({"none": (70.0, 71.0), "kd": (74.0, None)})).root


def export(*arguments: str | Path, cwd: Path) -> Answer:
    """Run ``adm export`` in a folder."""
    return adm("export", *arguments, cwd=cwd)


def test_a_suite_becomes_three_files_that_pandas_reads_in_one_line(tmp_path: Path) -> None:
    done = export("quick", "--store", QUICK, "--to", "parquet", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [f"export/{name}.parquet" for name in NAMES]
    scores, cost, curves = (pd.read_parquet(tmp_path / "export" / f"{name}.parquet") for name in NAMES)
    assert len(cost) == TRAINED - 1 == scores.cell.nunique() and set(curves.cell) == set(cost.cell)
    found = scores[scores.primary & (scores.network == "student")].groupby(["block", "label"]).value.mean()
    table = pd.read_csv(QUICK / "tables" / "scores.csv")
    shown = table[table.row_kind != "reference"].set_index(["block", "label"]).top1
    pd.testing.assert_series_equal(found, shown.sort_index(), check_names=False, rtol=1e-12)


def test_the_file_says_the_form_and_one_frame_may_be_chosen(runs: Path, tmp_path: Path) -> None:
    assert export("tiny", "--out", "a.csv", cwd=tmp_path).out == "a.csv\n"
    scores = pd.read_csv(tmp_path / "a.csv")
    assert scores.value.count() == 9 and list(scores[scores.status != "ok"].status) == ["diverged"]
    assert export("tiny", "--only", "cost", "--out", "b.JSON", cwd=tmp_path).code == 0
    assert len(pd.read_json(tmp_path / "b.JSON")) == 4
    done = export("tiny", "--only", "cost", "--to", "csv", "--out", tmp_path, cwd=tmp_path)
    assert done.out == f"{tmp_path / 'cost.csv'}\n" and (tmp_path / "cost.csv").is_file()
    assert export("somewhere/tiny.yaml", "--out", "c.parquet", cwd=tmp_path).code == 0


def test_suites_and_stores_may_be_mixed(runs: Path, tmp_path: Path) -> None:
    done = export("tiny", "runs", QUICK, "--to", "csv", "--only", "cost", cwd=tmp_path)
    found = pd.read_csv(tmp_path / "export" / "cost.csv")
    sizes = found.groupby(["store", found.suite.fillna("-")]).size().to_dict()
    assert sizes == {("runs", "tiny"): 4, ("runs", "-"): 4, (str(QUICK), "-"): TRAINED}, done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tinny"], "unknown suite 'tinny'; did you mean tiny?"),
        (["quick"], "nothing of it is in 'runs' yet; run 'adm run quick' first"),
        (["some/where"], "'some/where' is no folder of records: it has no folder 'records'; give a store or a suite"),
        (["tiny", "tiny"], "'tiny' is given twice: its rows would count twice"),
        (["tiny", "both"], "'both' is a folder of records here and a suite in 'runs'; the folder is './both'"),
        (["tiny", "--out", "x.xlsx"], "--out x.xlsx: a file's name ends in .parquet, .csv, .json"),
        (["tiny", "--out", "x.csv", "--to", "json"], "--out x.csv and --to json contradict each other"),
        (["tiny", "--to", "xml"], "xml"),
        (["tiny", "--out", "runs/suites/tiny.json/x.csv"], "cannot be written"),
    ],
)
def test_bad_input_is_one_clear_error(runs: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "both" / "records").mkdir(parents=True)
    (runs / "suites" / "both.json").write_bytes((runs / "suites" / "tiny.json").read_bytes())
    done = export(*arguments, cwd=tmp_path)
    assert done.code == 2 and message in done.err and done.out == ""
    assert "Traceback" not in done.err and not (tmp_path / "export").exists()
