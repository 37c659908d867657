"""Every command on terminals that lack most characters: what they lack is replaced, and nothing else is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import typer
from command_line import adm
from conftest import PROTOCOL, ROOT, SUITE

from suites.cli import app
from suites.work.folder import WorkFolder

QUICK = ROOT / "results" / "leaderboards" / "quick"
TITLE = "Größe → 大きさ"
COMMANDS: dict[str, tuple[str, ...]] = {
    "list": ("suites",), "plan": ("größe.yaml",), "status": ("größe.yaml",), "report": ("quick",),
    "export": ("quick", "--out", "größe.csv"), "compare": ("kd", "dkd"), "logs": ("{cell}",), "doctor": (),
    "run": ("大きさ",), "insight": ("大きさ",), "samples": ("大きさ",), "clean": (), "check": ("--method", "大きさ"),
    "migrate": (), "cancel": ("größe.yaml",), "power": ("quick",), "deploy": ("größe",),
    "merge": ("größe", "--into", "大きさ"), "publish": ("größe", "--store", "大きさ"),
    "tune": ("größe.yaml", "--trials", "2", "--dry-run"), "new-method": ("first", "--out", "größe.py"),
}  # fmt: skip
"""Arguments for every command; those that would train are given what there is not."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished store, a suite of many alphabets, and a log in one of them."""
    folder = tmp_path_factory.mktemp("terminal")
    shutil.copytree(QUICK, folder / "runs")
    (folder / "recipe.yaml").write_text(PROTOCOL)
    (folder / "größe.yaml").write_text(SUITE.replace("a test's suite", TITLE), encoding="utf-8")
    cell = next((folder / "runs" / "records").iterdir()).stem
    WorkFolder.of(folder / "runs", cell).report({"epoch": 1})
    WorkFolder.of(folder / "runs", cell).log.write_text(TITLE, encoding="utf-8")
    return folder


def test_every_command_is_tried() -> None:
    assert COMMANDS.keys() == typer.main.get_command(app).commands.keys()  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_prints_what_the_terminal_can_show(here: Path, command: str, encoding: str) -> None:
    cell = next((here / "runs" / "records").iterdir()).stem
    arguments = [word.format(cell=cell) for word in COMMANDS[command]]
    whole, shown = (adm(command, *arguments, cwd=here, encoding=name) for name in ("utf-8", encoding))
    (here / "größe.py").unlink(missing_ok=True)
    if command == "new-method":  # the first of the two has made the file
        assert shown.code == 2 and "exists; give another --out" in shown.err
        return
    assert shown.code == whole.code
    for ours, theirs in ((shown.out, whole.out), (shown.err, whole.err)):
        if command not in (
            "plan",
            "status",
            "list",
            "compare",
            "doctor",
            "tune",
        ):  # laid out in plainer characters where need be
            assert ours == theirs.encode(encoding, "plainer").decode(encoding)
        assert ours.count("\n") == theirs.count("\n")


def test_the_signs_of_a_table_are_replaced_by_plainer_ones() -> None:
    assert (
        "top-1 % ↑  80.1 ± 0.5 → Δ − ─── “x” 大".encode("ascii", "plainer") == b'top-1 % ^  80.1 ~ 0.5 > D - --- "x" ?'
    )
    assert "80.1 ± 0.5".encode("latin-1", "plainer").decode("latin-1") == "80.1 ± 0.5"


def test_a_file_name_in_no_encoding_is_told(here: Path) -> None:
    answer = adm("plan", "gr\udcff\udcdfe.yaml", cwd=here)
    assert answer.code == 2 and "gr??e.yaml" in answer.err
