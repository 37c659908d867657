"""``adm report`` as people run it: a process of its own, on stores that hold records and nothing else."""

from __future__ import annotations

import csv
import io
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from results.records.store import Store
from tests.results.factory import one_block, write

ROOT = Path(__file__).resolve().parents[3]
STUDENTS = {"none": (70.0, 71.0, 72.0), "kd": (74.0, 75.5, 76.1), "at": (73.0, None, 75.0)}
FILES = 13


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A store with one suite, whose definition no checkout has."""
    return write(tmp_path / "runs", *one_block(STUDENTS)).root


def adm(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``adm report`` in a folder."""
    command = [sys.executable, str(ROOT / "adm_bench.py"), "report", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, env=os.environ | environment)


def test_the_scores_are_printed_by_default(runs: Path) -> None:
    done = adm("tiny", cwd=runs.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert "*75.20 ± 1.08" in done.stdout and "frozen teacher" in done.stdout and "\x1b" not in done.stdout
    assert "at: diverged: loss is not finite" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "md"], "| 1 | **kd** |"),
        (["--format", "latex"], r"\textbf{75.20 $\pm$ 1.08}"),
        (["--table", "cost"], "step ms"),
        (["--table", "summary", "--format", "md"], "mean rank"),
        (["--table", "claims"], "No published figure"),
    ],
)
def test_forms_and_tables(runs: Path, arguments: list[str], words: str) -> None:
    done = adm("tiny", "--store", runs, *arguments, cwd=ROOT)
    assert done.returncode == 0 and words in done.stdout


def test_csv_on_standard_output_is_nothing_but_csv(runs: Path) -> None:
    done = adm("tiny", "--store", runs, "--format", "csv", cwd=ROOT)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["label"] for row in rows] == ["frozen teacher", "kd", "none", "at"]


def test_a_file_gets_one_form_by_its_suffix(runs: Path, tmp_path: Path) -> None:
    for name, begin in (("a.md", "## Block"), ("a.tex", "% "), ("a.csv", "table,"), ("a.html", "<!doctype html>")):
        done = adm("tiny", "--out", tmp_path / name, cwd=runs.parent)
        assert done.stdout == f"{tmp_path / name}\n" and (tmp_path / name).read_text().startswith(begin)


def test_a_folder_gets_everything_and_check_proves_it(runs: Path, tmp_path: Path) -> None:
    done = adm("tiny", "--out", "leaderboard", cwd=tmp_path)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == FILES
    assert all((tmp_path / line).is_file() for line in done.stdout.splitlines())
    checked = adm("tiny", "--check", cwd=tmp_path)
    assert checked.returncode == 0 and "every file is what the records give" in checked.stdout
    (tmp_path / "leaderboard" / "scores.md").write_text("better\n")
    (tmp_path / "leaderboard" / "cost.csv").unlink()
    checked = adm("tiny", "--check", "--out", "leaderboard", cwd=tmp_path)
    assert checked.returncode == 1 and "Traceback" not in checked.stderr
    assert "scores.md: differs" in checked.stdout and "-better" in checked.stdout
    assert "cost.csv: is missing" in checked.stdout and "summary" not in checked.stdout
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
        (["tiny", "--out", "runs/suites/tiny.json/x.md"], "cannot be written"),
    ],
)
def test_bad_input_is_one_clear_error(runs: Path, arguments: list[str], message: str) -> None:
    done = adm(*arguments, cwd=runs.parent)
    assert done.returncode == 2 and message in done.stderr and done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_form_that_is_asked_for_goes_to_one_file_whatever_its_name(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for out, file in (("page", "page"), ("folder", "folder/leaderboard.html")):
        done = adm("tiny", "--format", "html", "--out", out, cwd=tmp_path)
        assert done.returncode == 0 and (tmp_path / file).read_text().startswith("<!doctype html>")
    assert adm("tiny", "--format", "latex", "--out", "folder", cwd=tmp_path).returncode == 0
    assert "toprule" in (tmp_path / "folder" / "scores.tex").read_text()


def test_a_path_to_a_suites_file_names_its_manifest(runs: Path) -> None:
    done = adm("somewhere/tiny.yaml", cwd=runs.parent)
    assert done.returncode == 0 and "75.20" in done.stdout


def test_what_is_missing_is_told_apart_from_the_table(runs: Path) -> None:
    store = Store(runs)
    first, second, *_ = [row.id for row in store.read_manifest("tiny").rows if row.label == "kd"]
    store.record_path(first).unlink()
    store.record_path(second).write_text('{"schema_version": 1, "id"')
    done = adm("tiny", cwd=runs.parent)
    assert done.returncode == 0
    assert "1 of 9 cells have not been run; 'adm run tiny' trains them" in done.stderr
    assert f"unreadable: records/{second}.json: is damaged: not complete JSON" in done.stderr
    assert "1 ok, 1 unreadable, 1 not run" in done.stdout and "cells have not" not in done.stdout


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
    done = adm("tiny", "--store", runs, cwd=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert done.returncode == 0 and took < 5
