"""What the documents say is what the code does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import matplotlib
import pytest

from results import report
from results.records.store import Store
from suites.spec.definition import load_suite, protocol_names, suite_names
from suites.spec.expand import expand

ROOT = Path(__file__).resolve().parent.parent
LEADERBOARDS = sorted(path for path in (ROOT / "results" / "leaderboards").glob("*") if path.is_dir())
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def generated() -> dict[str, str]:
    """The pages as the code gives them now."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pages: dict[str, str] = module.pages()
    return pages


def test_generated_pages_are_up_to_date() -> None:
    stale = [name for name, text in generated().items() if (ROOT / "docs" / name).read_text() != text]
    assert not stale, f"run python docs/generate.py: {stale}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    dead = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not dead


def test_the_readme_names_every_suite() -> None:
    named = set(re.findall(r"^\| (.*?) \|", (ROOT / "README.md").read_text(), re.MULTILINE))
    told = {name for cell in named for name in re.findall(r"`([a-z0-9-]+)`", cell)}
    assert set(suite_names()) <= told


def test_every_shipped_suite_and_protocol_can_be_read() -> None:
    assert len(protocol_names()) >= 6
    for name in suite_names():
        assert load_suite(name).blocks or load_suite(name).suites


@pytest.mark.parametrize("folder", LEADERBOARDS, ids=lambda path: path.name)
def test_committed_records_are_of_the_suite_as_it_stands(folder: Path) -> None:
    wanted = {row.id for row in expand(folder.name).rows}
    assert wanted == {row.id for row in Store(folder).read_manifest(folder.name).rows}


@pytest.mark.parametrize("folder", LEADERBOARDS, ids=lambda path: path.name)
def test_committed_tables_are_what_the_committed_records_give(folder: Path) -> None:
    found = report.load(folder, folder.name)
    messages = report.check(found, folder / "tables")
    made_with = (folder / "matplotlib.txt").read_text().strip()
    if matplotlib.__version__ != made_with:  # plots are lines of that library's, which another version may draw apart
        messages = [message for message in messages if "leaderboard.html" not in message]
    assert not messages and not found.problems
