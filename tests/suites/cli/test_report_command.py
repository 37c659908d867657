"""``adm report`` on stores that hold records and nothing else."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Answer, adm

from results.records.store import Store
from tests.results.factory import one_block, write

ROOT = Path(__file__).resolve().parents[3]
STUDENTS = {"none": (70.0, 71.0, 72.0), "kd": (74.0, 75.5, 76.1), "at": (73.0, None, 75.0)}
FILES = 13
COMMAND = [sys.executable, str(ROOT / "adm_bench.py"), "report"]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A store with one suite, whose definition no checkout has."""
    return write(tmp_path / "runs", *one_block(STUDENTS)).root


def report(*arguments: str | Path, cwd: Path) -> Answer:
    """Run ``adm report`` in a folder."""
    return adm("report", *arguments, cwd=cwd)


def test_the_scores_are_printed_by_default(runs: Path) -> None:
    done = report("tiny", cwd=runs.parent)
    assert (done.code, done.err) == (0, "")
    assert "*75.20 ± 1.08" in done.out and "frozen teacher" in done.out and "\x1b" not in done.out
    assert "at: diverged: loss is not finite" in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "md"], "| 1 | **kd** |"),
        (["--format", "latex"], r"\textbf{75.20 $\pm$ 1.08}"),
        (["--table", "cost"], "step ms"),
        (["--table", "summary", "--format", "md"], "no two blocks of this suite have regime and condition in common"),
        (["--table", "controls"], "no row of this suite names controls"),
        (["--table", "claims"], "No published figure"),
    ],
)
def test_forms_and_tables(runs: Path, arguments: list[str], words: str) -> None:
    done = report("tiny", "--store", runs, *arguments, cwd=ROOT)
    assert done.code == 0 and words in done.out


def test_power_says_what_the_tables_can_tell(runs: Path) -> None:
    done = adm("power", "tiny", cwd=runs.parent)
    assert (done.code, done.err) == (0, "")
    assert "With 3 seeds this table cannot tell differences below" in done.out
    assert done.out == report("tiny", "--table", "power", cwd=runs.parent).out
    (line,) = json.loads(adm("power", "tiny", "--json", cwd=runs.parent).out)
    assert (line["reference"], line["seeds"], line["benchmark"]) == ("kd", 3, "digit-scenes@1")
    (row,) = csv.DictReader(io.StringIO(adm("power", "tiny", "--format", "csv", cwd=runs.parent).out))
    assert float(row["smallest"]) == line["smallest"] and line["verdict"][0] in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "html"], "the whole page: adm report tiny --format html --out leaderboard.html"),
        (["--format", "md", "--json"], "--json and --format md contradict each other"),
    ],
)
def test_power_has_no_page_and_one_form_at_a_time(runs: Path, arguments: list[str], message: str) -> None:
    done = adm("power", "tiny", *arguments, cwd=runs.parent)
    assert done.code == 2 and message in done.err


def test_csv_on_standard_output_is_nothing_but_csv(runs: Path) -> None:
    done = report("tiny", "--store", runs, "--format", "csv", cwd=ROOT)
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["label"] for row in rows] == ["frozen teacher", "kd", "none", "at"]


def test_a_file_gets_one_form_by_its_suffix(runs: Path, tmp_path: Path) -> None:
    for name, begin in (("a.md", "## Block"), ("a.tex", "% "), ("a.csv", "table,"), ("a.html", "<!doctype html>")):
        done = report("tiny", "--out", tmp_path / name, cwd=runs.parent)
        assert done.out == f"{tmp_path / name}\n" and (tmp_path / name).read_text().startswith(begin)


def test_a_folder_gets_everything_and_check_proves_it(runs: Path, tmp_path: Path) -> None:
    done = report("tiny", "--out", "leaderboard", cwd=tmp_path)
    assert done.code == 0 and len(done.out.splitlines()) == FILES
    assert all((tmp_path / line).is_file() for line in done.out.splitlines())
    checked = report("tiny", "--check", cwd=tmp_path)
    assert checked.code == 0 and "every file is what the records give" in checked.out
    (tmp_path / "leaderboard" / "scores.md").write_text("better\n")
    (tmp_path / "leaderboard" / "cost.csv").unlink()
    checked = report("tiny", "--check", "--out", "leaderboard", cwd=tmp_path)
    assert checked.code == 1 and "Traceback" not in checked.err
    assert "scores.md: differs" in checked.out and "-better" in checked.out
    assert "cost.csv: is missing" in checked.out and "summary" not in checked.out
    assert (tmp_path / "leaderboard" / "scores.md").read_text() == "better\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tinny"], "unknown suite 'tinny'; did you mean tiny?"),
        (["quikc"], "unknown suite 'quikc'; did you mean quick"),
        (["quick"], "nothing of it is in 'runs' yet; run 'adm run quick' first"),
        (["tiny", "--format", "html"], "--format html needs --out FILE"),
        (["tiny", "--check", "--out", "x.md"], "x.md is one file"),
        (["tiny", "--table", "score"], "score"),
        (["tiny", "--out", "x.pdf"], "--out x.pdf: the suffix says no form; take one of .txt, .md"),
        (["tiny", "--out", "x.csv", "--format", "md"], "--out x.csv and --format md contradict each other"),
        (["tiny", "--out", "x", "--table", "cost"], "--table cost: a folder, a page and --check hold every table"),
        (["tiny", "--out", "x.html", "--table", "cost"], "--table cost: a folder, a page and --check hold every table"),
        (["tiny", "--check", "--table", "cost"], "--table cost: a folder, a page and --check hold every table"),
        (["tiny", "--store", "rnus"], "--store rnus: no such folder"),
        (["quick", "--store", "."], "nothing of it is in '.' yet; run 'adm run quick --store .' first"),
        (["tiny", "--out", "runs/suites/tiny.json/x.md"], "cannot be written"),
    ],
)
def test_bad_input_is_one_clear_error(runs: Path, arguments: list[str], message: str) -> None:
    done = report(*arguments, cwd=runs.parent)
    assert done.code == 2 and message in done.err and done.out == ""
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cancel", "tinny"], "unknown suite 'tinny'; did you mean tiny?"),
        (["cancel", "tiny", "--store", "rnus"], "--store rnus: no such folder"),
        (["compare", "kd", "at", "--store", "rnus"], "--store rnus: no such folder"),
        (["compare", "kd", "at", "--store", "runs/suites/tiny.json"], "--store runs/suites/tiny.json: not a folder"),
        (["run", "quick", "--timeout", "0"], "Input should be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_other_commands_too(runs: Path, arguments: list[str], message: str) -> None:
    done = adm(*arguments, cwd=runs.parent)
    assert done.code == 2 and message in done.err and done.out == ""


def test_a_form_that_is_asked_for_goes_to_one_file_whatever_its_name(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for out, file in (("page", "page"), ("folder", "folder/leaderboard.html")):
        done = report("tiny", "--format", "html", "--out", out, cwd=tmp_path)
        assert done.code == 0 and (tmp_path / file).read_text().startswith("<!doctype html>")
    assert report("tiny", "--format", "latex", "--out", "folder", cwd=tmp_path).code == 0
    assert "toprule" in (tmp_path / "folder" / "scores.tex").read_text()


def test_a_path_to_a_suites_file_names_its_manifest(runs: Path) -> None:
    done = report("somewhere/tiny.yaml", cwd=runs.parent)
    assert done.code == 0 and "75.20" in done.out


def test_what_is_missing_is_told_apart_from_the_table(runs: Path) -> None:
    store = Store(runs)
    first, second, *_ = [row.id for row in store.read_manifest("tiny").rows if row.label == "kd"]
    store.record_path(first).unlink()
    store.record_path(second).write_text('{"schema_version": 1, "id"')
    done = report("tiny", cwd=runs.parent)
    assert done.code == 0
    assert "not run yet: 1 of 9 cells; 'adm run tiny' trains them" in done.err
    assert f"unreadable: records/{second}.json: is damaged: not complete JSON" in done.err
    assert "1 ok, 1 unreadable, 1 not run" in done.out and "cells have not" not in done.out


@pytest.mark.parametrize("arguments", [[], ["--out", "page.html"]])
def test_a_report_needs_no_torch(runs: Path, tmp_path: Path, arguments: list[str]) -> None:
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "torch.py").write_text('raise ImportError("torch is broken here")\n')
    probe = "import sys; sys.path.insert(0, sys.argv.pop(1)); import adm_bench; adm_bench.main()"
    command = [sys.executable, "-c", probe, str(fake), "report", "tiny", "--store", str(runs), *arguments]
    environment = os.environ | {"PYTHONPATH": f"{fake}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0 and "torch" not in done.stderr, done.stderr


def test_a_closed_pipe_is_no_crash(runs: Path) -> None:
    command = f"{sys.executable} {ROOT / 'adm_bench.py'} report tiny --store {runs} | true"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr


def test_a_thousand_records_are_reported_at_once(tmp_path: Path) -> None:
    """Ten thousand take less than 5 s on an idle machine; a tenth of them must not keep a processor longer."""
    students = {"none": (70.0,) * 5} | {f"m{i}": tuple(70 + (i * s) % 7 / 10 for s in range(5)) for i in range(199)}
    runs = write(tmp_path / "runs", *one_block(students)).root
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*COMMAND, "tiny", "--store", str(runs)], cwd=tmp_path, capture_output=True, timeout=120)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert done.returncode == 0 and took < 5
