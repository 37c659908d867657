"""The tables of speed, made of what pytest-benchmark writes, between two marks of a page."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_spec = importlib.util.spec_from_file_location("speed", ROOT / "docs" / "speed.py")
assert _spec is not None and _spec.loader is not None
speed = importlib.util.module_from_spec(_spec)
sys.modules["speed"] = speed
_spec.loader.exec_module(speed)

MARKED = f"before\n{speed.BEGIN}old\n{speed.END}after\n"


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "docs").mkdir()
    for page in ("README.md", "docs/speed.md"):
        (tmp_path / page).write_text(MARKED)
    return tmp_path


def run_of(file: Path, day: str, *rows: dict) -> Path:
    """A file as pytest-benchmark writes it, with what :mod:`tests.benchmarks.conftest` adds."""
    machine = {"processor": "a CPU", "kernels": "AVX2", "torch": "2.14.1", "cpu": {"count": 2}}
    made = [{"fullname": f"test_{n}", "extra_info": {"rows": [row]}} for n, row in enumerate(rows)]
    file.write_text(json.dumps({"machine_info": machine, "datetime": f"{day}T10:00:00", "benchmarks": made}))
    return file


def row(what: str, result: str, headline: bool = False) -> dict:
    return {"what": what, "result": result, "headline": headline, "figures": {}}


def test_both_tables_are_written_between_the_marks(root):
    file = run_of(root / "a.json", "2026-11-26", row("a step", "2 ms", headline=True), row("a command", "0.1 s"))
    speed.main([file], root)
    measured = "Measured on a CPU (AVX2), 2 cores, torch 2.14.1, 2026-11-26.\n\n| what | measured |\n| :--- | ---: |\n"
    table = f"before\n{speed.BEGIN}{measured}| a step | 2 ms |\n"
    assert (root / "README.md").read_text() == f"{table}{speed.END}after\n"
    assert (root / "docs/speed.md").read_text() == f"{table}| a command | 0.1 s |\n{speed.END}after\n"


def test_a_later_run_takes_the_place_of_an_earlier_and_says_where_it_was(root):
    first = run_of(root / "a.json", "2026-11-25", row("a", "1 ms", headline=True), row("b", "2 ms"), row("c", "3 ms"))
    later = run_of(root / "b.json", "2026-11-26", row("a", "4 ms", headline=True))
    speed.main([first, later], root)
    page = (root / "docs/speed.md").read_text()
    assert "| a | 4 ms (a CPU (AVX2), 2 cores, torch 2.14.1, 2026-11-26) |" in page and "1 ms" not in page
    assert "| b | 2 ms |" in page and "2026-11-25.\n" in page


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("{}", "not a --benchmark-json file"),
        ("no JSON", "not a --benchmark-json file"),
        ('{"machine_info": {"processor": "", "kernels": "", "torch": "", "cpu": {}}, "datetime": "", "benchmarks": []}',
         "no benchmark told anything"),
    ],
    ids=["another JSON", "no JSON", "no benchmarks"],
)  # fmt: skip
def test_what_is_not_of_a_benchmark_is_refused(root, file, said):
    (root / "a.json").write_text(file)
    with pytest.raises(SystemExit, match=said):
        speed.main([root / "a.json"], root)
    assert (root / "README.md").read_text() == MARKED


def test_pages_without_marks_and_runs_without_headlines_are_refused(root):
    file = run_of(root / "a.json", "2026-11-26", row("a", "1 ms"))
    with pytest.raises(SystemExit, match="nothing of this is for the README"):
        speed.main([file], root)
    (root / "docs/speed.md").write_text("no marks\n")
    with pytest.raises(SystemExit, match="a table belongs between the lines"):
        speed.main([run_of(root / "b.json", "2026-11-26", row("a", "1 ms", headline=True))], root)


def test_a_real_benchmark_tells_its_row_and_its_machine(tmp_path):
    file = tmp_path / "made.json"
    words = [
        "-m",
        "pytest",
        "tests/benchmarks/test_cli_latency.py",
        "-k",
        "help",
        "--benchmark-only",
        f"--benchmark-json={file}",
    ]
    subprocess.run([sys.executable, *words, "-p", "no:xdist"], cwd=ROOT, check=True, capture_output=True, timeout=120)
    (told,) = speed.rows_of([file])
    assert told.what == "`adm --help`" and told.result.endswith(" s") and " cores, torch " in told.where


def test_the_committed_pages_have_the_marks_that_the_tables_belong_between():
    for page in ("README.md", "docs/speed.md"):
        text = (ROOT / page).read_text()
        assert text.count(speed.BEGIN) == text.count(speed.END) == 1
        assert text.index(speed.BEGIN) < text.index(speed.END)


def test_the_table_of_a_gpu_has_a_line_for_each_side_and_says_what_is_not_there(root):
    rows = [
        {"pair": "a:b", "side": "plain", "cells": 1, "ms": 20.0, "against_plain": 1.0},
        {"pair": "a:b", "side": "compile", "cells": 1, "failed": "no compiler"},
        {"pair": "c:d", "side": "plain", "cells": 1, "ms": 10.0, "against_plain": 1.0},
    ]
    made = {"device": "a GPU", "torch": "2.11", "day": "2026-11-27", "batch_size": 64, "steps": 40, "rounds": 2}
    (root / "gpu.json").write_text(json.dumps(made | {"per_gpu": 4, "rows": rows}))
    (root / "docs/speed.md").write_text(f"before\n{speed.GPU_BEGIN}{speed.GPU_END}{MARKED}")
    speed.main([root / "gpu.json"], root)
    text = (root / "docs/speed.md").read_text()
    assert "Measured on a GPU, torch 2.11, 2026-11-27" in text and text.endswith(MARKED)
    assert "| a > b | c > d |" in text
    assert "| plain | 20.0 ms, 1.00 × | 10.0 ms, 1.00 × |\n| compile | no compiler | not measured |\n" in text
    assert (root / "README.md").read_text() == MARKED


def test_a_file_that_is_not_there_is_refused_in_a_line(root):
    with pytest.raises(SystemExit, match=r"none\.json: not a --benchmark-json file"):
        speed.main([root / "none.json"], root)


def test_the_committed_table_of_a_gpu_is_that_of_its_file():
    made = json.loads((ROOT / "docs/gpu-steps.json").read_text())
    assert speed.gpu_table(made) in (ROOT / "docs/speed.md").read_text()
