"""Which tables there are: a file each, and those of other distributions, made here in a folder outside the packages."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest

from results.analysis.blocks import collect
from results.errors import RecordError
from results.table import Column, Table
from results.tables import registry
from results.tables.registry import TableKind
from tests.results.factory import one_block

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "add-a-table.md").read_text()
SPREAD = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]
"""The example of the docs."""


def test_the_built_in_tables_are_the_files_of_the_folder_in_their_order() -> None:
    assert registry.names() == ["scores", "controls", "slices", "cost", "claims", "summary", "power"]
    files = {path.stem for path in Path(registry.__file__).parent.glob("*.py")} - {"__init__", "registry"}
    assert files == set(registry.names()) and [kind.name for kind in registry.kinds()] == registry.names()


def _table(*keys: str) -> Table:
    return Table("toy", "A toy", tuple(Column(key, key) for key in keys), ())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TableKind(name="scores", title="Mine", of_suite=lambda _: []),
         "two tables are named 'scores': in results.tables.scores and tests.results.tables.test_registry"),
        (lambda: TableKind(name="My table", title="Mine", of_suite=lambda _: []), "'My table': a name has lower-case"),
        (lambda: TableKind(name="mine", title="Mine"), "give of_block, of_suite or both"),
        (lambda: TableKind(name="mine", title="Mine", of_suite=lambda _: [], forms=("md", "pdf")),  # type: ignore
         "unknown form 'pdf'; there are md, tex, csv"),
    ],
)  # fmt: skip
def test_a_kind_that_cannot_be_is_refused(make: Callable[[], TableKind], message: str) -> None:
    registry.get("scores")
    with pytest.raises(RecordError, match=message):
        registry.register(make())
    assert "mine" not in registry.names()


def test_a_table_whose_rows_have_no_name_is_refused() -> None:
    blocks = collect(*one_block({"none": (70.0,)}))
    kind = TableKind(
        name="toy", title="Toy", of_block=lambda _: [_table("width")], of_suite=lambda _: [_table("label")]
    )
    with pytest.raises(RecordError, match="'A toy' has no column 'label', which names its rows; its columns are width"):
        kind.make(blocks)
    (table,) = kind.tables([])
    assert [column.key for column in table.columns] == ["label"]


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    """A copy of a committed store."""
    return copytree(ROOT / "results" / "leaderboards" / "quick", tmp_path / "quick")


def outside(folder: Path, module: str, points: str) -> Path:
    """A distribution that is installed in a folder of its own: a module, and the entry points of its metadata."""
    (folder / "toy-1.0.dist-info").mkdir(parents=True)
    (folder / "toy_table.py").write_text(module)
    (folder / "toy-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (folder / "toy-1.0.dist-info" / "entry_points.txt").write_text(f"[adm_bench.tables]\n{points}\n")
    return folder


def report(quick: Path, plugin: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``adm report quick`` where a folder is on the path besides the packages."""
    command = [sys.executable, str(ROOT / "adm_bench.py"), "report", "quick", "--store", str(quick), *arguments]
    given = os.environ | {"PYTHONPATH": str(plugin)}
    return subprocess.run(command, cwd=quick.parent, capture_output=True, text=True, timeout=300, env=given)


@pytest.mark.parametrize("place", ["block", "top"])
def test_a_table_of_another_distribution_is_printed_written_and_shown_in_the_page(
    quick: Path, tmp_path: Path, place: str
) -> None:
    plugin = outside(tmp_path / "plugin", SPREAD.replace('"block"', f'"{place}"'), "spread = toy_table")
    printed = report(quick, plugin, "--table", "spread", "--format", "csv")
    assert (printed.returncode, printed.stderr) == (0, "")
    rows = list(csv.DictReader(printed.stdout.splitlines()))
    manifest = json.loads((quick / "suites" / "quick.json").read_text())["rows"]
    ids = [row["id"] for row in manifest if row["label"] == "none" and row["cell"]["regime"] == "online"]
    top1 = [json.loads((quick / "records" / f"{i}.json").read_text())["scores"]["student"]["top1"] for i in ids]
    width = next(float(row["width"]) for row in rows if (row["regime"], row["label"]) == ("online", "none"))
    assert width == pytest.approx(max(top1) - min(top1))
    assert len(rows) == len({(row["block"], row["label"]) for row in manifest})

    written = report(quick, plugin, "--out", "out")
    names = [Path(line).name for line in written.stdout.splitlines()]
    assert written.returncode == 0 and {"spread.md", "spread.csv"} <= set(names) and "spread.tex" not in names
    assert (tmp_path / "out" / "spread.csv").read_text() == printed.stdout
    for name in set(names) - {"spread.md", "spread.csv", "leaderboard.html"}:
        assert (tmp_path / "out" / name).read_bytes() == (quick / "tables" / name).read_bytes()
    page, before = ((folder / "leaderboard.html").read_text() for folder in (tmp_path / "out", quick / "tables"))
    assert page.count("Spread &amp; gap</h") == {"block": 2, "top": 1}[place]
    assert page.count('title="best seed minus worst"') == 2 and "<dt>widest gap</dt>" in page
    assert page.count('href="#table-spread"') == page.count('id="table-spread"') == (place == "top")
    assert len(page) > len(before)

    told = report(quick, plugin, "--help")
    assert "<scores|controls|slices|cost|claims|summary|power|spread>" in told.stdout
    refused = report(quick, plugin, "--table", "spread", "--format", "latex")
    assert refused.returncode == 2 and refused.stdout == ""
    assert refused.stderr == "error: table 'spread': has no form 'latex'; it has terminal, md, csv\n"
    assert "did you mean 'spread'?" in report(quick, plugin, "--table", "spred").stderr


@pytest.mark.parametrize(
    ("module", "points", "message"),
    [
        ("import nowhere\n", "toy = toy_table", "table 'toy': entry point 'toy_table' cannot be imported: "
         "ModuleNotFoundError: No module named 'nowhere' (line 1 of toy_table.py)"),
        (SPREAD, "other = toy_table", "table 'other': entry point 'toy_table' registers no table of that name"),
        (SPREAD, "cost = toy_table", "table 'cost': entry point 'toy_table' takes the name of a built-in table"),
    ],
)  # fmt: skip
def test_a_broken_table_of_another_distribution_is_named_and_spoils_no_other(
    quick: Path, tmp_path: Path, module: str, points: str, message: str
) -> None:
    plugin = outside(tmp_path / "plugin", module, points)
    written = report(quick, plugin, "--out", "out")
    assert written.returncode == 2 and message in written.stderr and "Traceback" not in written.stderr
    assert not (tmp_path / "out").exists()
    assert report(quick, plugin, "--table", "scores").returncode == 0
