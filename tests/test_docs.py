"""What the documents say is what the code does."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import matplotlib
import numpy as np
import pytest
import typer
from PIL import Image
from ruamel.yaml import YAML
from typer.core import TyperGroup

from adm_core import registry
from adm_core.testing import FORMS, check_method
from results import report
from results.records.store import Store
from suites.cli import app
from suites.spec.definition import load_suite
from suites.spec.expand import expand
from suites.spec.names import protocol_names, suite_names

ROOT = Path(__file__).resolve().parent.parent
LEADERBOARDS = sorted(path for path in (ROOT / "results" / "leaderboards").glob("*") if path.is_dir())
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
SHELLS = ("", "sh", "bash", "shell", "console")
PLACES = ("adm_core", "tasks", "suites", "results", "tests", "docs", ".ci")
USAGE = re.compile(r"[|…<\[]")
"""What a line shows that is a form to fill in and no command."""


def script(name: str) -> ModuleType:
    """A script of the docs folder, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec and spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text())


def commands(page: Path) -> list[list[str]]:
    """Every command that a page shows, in words: lines of blocks for a shell, and spans of code in the prose."""
    text = page.read_text()
    scripts = [block.replace("\\\n", " ") for language, block in FENCE.findall(text) if language in SHELLS]
    blocks = [line for script in scripts for line in script.splitlines()]
    spans = [span for span in SPAN.findall(prose(page)) if not USAGE.search(span)]
    shown = [part for line in [*blocks, *spans] for part in re.split(r" (?:&&|[|>]) ", re.sub(r"(^|\s)#.*", "", line))]
    found = [re.match(r"\s*(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?((?:adm|make) [a-z].*)", one) for one in shown]
    return [shlex.split(match[1]) for match in found if match]


def anchors(page: Path) -> set[str]:
    """What a link into a page may name: its headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_generated_pages_are_up_to_date() -> None:
    pages: dict[str, str] = script("generate").pages()
    stale = [name for name, text in pages.items() if (ROOT / "docs" / name).read_text() != text]
    assert not stale, f"run python docs/generate.py: {stale}"


@pytest.mark.parametrize("name", ["cwd", "mutual"])
def test_the_table_of_methods_says_what_adm_check_says(name: str) -> None:
    """Of methods that run on one task each, as to check what runs takes seconds."""
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    table = page.partition(f"\n### {registry.get(name).card.family.capitalize()}\n")[2].partition("\n##")[0]
    row = re.search(rf"^\| \[`{name}`\].*$", table, re.MULTILINE)
    assert row
    cells = dict(zip(FORMS, row[0].split(" | ")[1:4], strict=True))
    checks = list(check_method(name))
    declined = {check.form: check.detail for check in checks if check.name == "declines with a reason"}
    assert {check.form: check.regime for check in checks if check.form not in declined} == {
        form: cell for form, cell in cells.items() if "–" not in cell
    }
    assert len(declined) == 2
    for form, reason in declined.items():
        number = re.fullmatch(r"–<sup>(\d+)</sup>", cells[form])
        told = reason.replace(f"'{name}' reads ", "the method reads ")
        assert number and f"\n{number[1]}. {told}\n" in table


def test_pictures_are_what_the_committed_records_give() -> None:
    drawn = script("pictures")
    if matplotlib.__version__ != drawn.MADE_WITH.read_text().strip():
        pytest.skip("another version of matplotlib draws other bytes")
    stale = [name for name, content in drawn.pictures() if (drawn.PICTURES / name).read_bytes() != content]
    assert not stale, f"run python docs/pictures.py: {stale}"


def test_the_sheet_of_corruptions_shows_them_as_they_are() -> None:
    drawn = script("corruptions")
    with Image.open(drawn.SHEET) as sheet:
        shown = np.asarray(sheet.convert("RGB"))[:, drawn.NAME :].astype(float)
    wanted = drawn.pictures().astype(float)
    # the sheet has 255 colours, and another version of Pillow compresses otherwise
    assert shown.shape == wanted.shape and np.abs(shown - wanted).mean() < 8, "run python docs/corruptions.py"


def test_pictures_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs" / "pictures").glob("*.png")}
    assert len(sizes) >= 5 and max(sizes.values()) < 300_000


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = prose(page)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|srcset|href)=\"([^\"]+)\"", text)
    dead = []
    for target in targets:
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(target)
    assert not dead


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_paths_that_are_named_exist(page: Path) -> None:
    """Spans of code that begin with one of this project's folders; ``<task>`` and upper case stand for any name."""
    spans = [span.rstrip("/") for span in SPAN.findall(prose(page)) if re.match(rf"({'|'.join(PLACES)})/[^ ]*$", span)]
    patterns = {span: re.sub(r"<\w+>|\b[A-Z]{2,}\b", "*", span) for span in spans}
    assert not [span for span, pattern in patterns.items() if not list(ROOT.glob(pattern))]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_that_are_shown_can_be_typed(page: Path) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for program, name, *arguments in commands(page):
        if program == "make":
            assert {name, *arguments} <= targets, f"make {name}"
            continue
        context = group.make_context("adm", [name, *arguments])
        command = group.get_command(context, name)
        assert command is not None, f"adm {name}: there is no such command"
        if not arguments:  # mentioned, not shown
            continue
        try:
            command.make_context(name, [*arguments], parent=context)
        except Exception as error:
            raise AssertionError(f"adm {shlex.join([name, *arguments])}: {error}") from error


def test_the_front_page_shows_its_commands() -> None:
    shown = commands(ROOT / "README.md")
    assert ["make", "test"] in shown and ["make", "bench"] in shown
    assert len([one for one in shown if one[0] == "adm"]) >= 10


def test_the_citation_names_this_version_and_licence() -> None:
    citation = YAML(typ="safe").load(ROOT / "CITATION.cff")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_suite_stands_in_the_table_of_suites() -> None:
    rows = re.findall(r"^\| (.*?) \|", (ROOT / "docs" / "benchmarks.md").read_text(), re.MULTILINE)
    told = {name for cell in rows for name in re.findall(r"`([a-z0-9-]+)`", cell)}
    assert set(suite_names()) <= told


def test_every_shipped_suite_and_protocol_can_be_read() -> None:
    assert len(protocol_names()) >= 6
    for name in suite_names():
        assert load_suite(name).blocks or load_suite(name).suites


@pytest.mark.parametrize("folder", LEADERBOARDS, ids=lambda path: path.name)
def test_committed_records_are_of_the_suite_as_it_stands_or_told_to_be_older(folder: Path) -> None:
    older = (ROOT / "docs" / "leaderboards.md").read_text(encoding="utf-8").partition("## Of older versions")[2]
    wanted = {row.id for row in expand(folder.name).rows}
    there = {row.id for row in Store(folder).read_manifest(folder.name).rows}
    assert (wanted == there) is (f"leaderboards/{folder.name}/" not in older)


@pytest.mark.parametrize("folder", LEADERBOARDS, ids=lambda path: path.name)
def test_committed_tables_are_what_the_committed_records_give(folder: Path) -> None:
    found = report.load(folder, folder.name)
    messages = report.check(found, folder / "tables")
    made_with = (folder / "matplotlib.txt").read_text().strip()
    if matplotlib.__version__ != made_with:  # plots are lines of that library's, which another version may draw apart
        messages = [message for message in messages if "leaderboard.html" not in message]
    assert not messages and not found.problems
