"""``adm report`` and ``adm power``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from suites.cli.arguments import DEFAULT_STORE, AsJson, StoreFolder, SuiteName
from suites.cli.console import make_console, say
from suites.cli.stored import reading, stored_suite

if TYPE_CHECKING:
    from results.report import Results

_LEADERBOARD = Path("leaderboard")
_SUFFIXES = {".txt": "terminal", ".md": "md", ".tex": "latex", ".csv": "csv", ".html": "html", ".htm": "html"}
_MOST_PROBLEMS = 5


class Form(StrEnum):
    """How tables are written."""

    terminal = "terminal"
    md = "md"
    latex = "latex"
    csv = "csv"
    html = "html"


class ReportCommand(TyperCommand):
    """``adm report``; its help names the tables, which are looked up only when it is asked for."""

    def get_help(self, ctx: Any) -> str:
        """The help, with the tables that can be asked for."""
        from results.tables import registry

        next(param for param in self.params if param.name == "table").metavar = f"<{'|'.join(registry.names())}>"
        return super().get_help(ctx)


def report(
    suite: SuiteName,
    store: StoreFolder = DEFAULT_STORE,
    form: Annotated[
        Form | None, typer.Option("--format", help="terminal unless --out's suffix says otherwise; html needs --out.")
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", metavar="TABLE", help="Default: scores. Pages and folders hold all.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A file for one form; a folder, without --format, gets every table and form."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare the files in --out (leaderboard) with the records; write nothing.")
    ] = False,
) -> None:
    """Print a suite's tables, or write them to files. Needs the records alone: no torch, no data, no suite file.

    Exit status: 0 done, 1 --check found differences, 2 bad input.

    Example: adm report quick --out leaderboard
    """
    from results.tables import registry

    shown = table or "scores"
    registry.get(shown)
    whole = out is None or (form is None and (out.is_dir() or not out.suffix))
    if out is not None and out.is_dir() and form is not None:
        out = out / ("leaderboard.html" if form is Form.html else f"{shown}{_suffix(form)}")
    form = _form(form, None if whole else out)
    _forbid_contradictions(form, out, whole, check, table)
    found = _load(store, suite)
    _warn(found, suite)
    if check:
        sys.exit(_compare(found, out or _LEADERBOARD))
    if out is None:
        say(_text(found, form, shown), end="")
    elif whole:
        from results.report import write_all

        for path in write_all(found, out):
            say(path)
    else:
        from results.records.store import write_atomically

        write_atomically(out, _text(found, form, shown))
        say(out)


def power(
    suite: SuiteName,
    store: StoreFolder = DEFAULT_STORE,
    form: Annotated[Form, typer.Option("--format", help="All but html, which is adm report's.")] = Form.terminal,
    as_json: AsJson = False,
) -> None:
    """Say what each table of a suite can tell: which differences, on how many seeds, and what a seed costs.

    From its records alone: the gap between teacher and lone student, the effect of an established method, the noise,
    the smallest difference that is told with 80 % probability, and whether training comes to rest.

    Example: adm power quick
    """
    from adm_core.errors import AdmError

    if form is Form.html:
        raise AdmError(f"--format html is the whole page: adm report {suite} --format html --out leaderboard.html")
    if as_json and form is not Form.terminal:
        raise AdmError(f"--json and --format {form} contradict each other; leave out one")
    found = _load(store, suite)
    _warn(found, suite)
    say(_power_json(found) if as_json else _text(found, form, "power"), end="\n" if as_json else "")


def _power_json(found: Results) -> str:
    """A list with an object for each table that has a baseline."""
    from results.analysis.merit import measure
    from results.tables.power import verdict

    blocks = [block for block in found.blocks if block.baseline is not None]
    merits = [(block, measure(block)) for block in blocks]
    lines = [{**block.context, **asdict(merit), "verdict": verdict(block, merit)} for block, merit in merits]
    return json.dumps(lines, indent=1)


def _form(given: Form | None, file: Path | None) -> Form:
    """The form that is asked for by name, or by the suffix of the file that is written."""
    from adm_core.errors import AdmError

    meant = _SUFFIXES.get(file.suffix.lower()) if file else "terminal"
    if given is None:
        if meant is None:
            raise AdmError(f"--out {file}: the suffix says no form; take one of {', '.join(_SUFFIXES)}, or a folder")
        return Form(meant)
    if file and meant not in (None, given):
        raise AdmError(f"--out {file} and --format {given} contradict each other; leave out one")
    return given


def _forbid_contradictions(form: Form, out: Path | None, whole: bool, check: bool, table: str | None) -> None:
    from adm_core.errors import AdmError

    if table is not None and (check or (whole and out is not None) or form is Form.html):
        raise AdmError(f"--table {table}: a folder, a page and --check hold every table; leave it out")
    if check and not whole:
        raise AdmError(f"--check compares a whole folder of every form: leave out --format; --out {out} is one file")
    if check or form is not Form.html:
        return
    if out is None:
        raise AdmError("--format html needs --out FILE, for example --out leaderboard.html")


def _suffix(form: Form) -> str:
    return next(suffix for suffix, name in _SUFFIXES.items() if name == form.value)


def _load(store: Path, suite: str) -> Results:
    from results import report

    name = stored_suite(store, suite)
    with reading():
        return report.load(store, name)


def _warn(found: Results, suite: str) -> None:
    """Say on standard error what the tables lack."""
    if found.not_run:
        cells = sum(len(line.planned) for block in found.blocks for line in block.lines)
        say(f"not run yet: {found.not_run} of {cells} cells; 'adm run {suite}' trains them", err=True)
    for problem in found.problems[:_MOST_PROBLEMS]:
        say(f"unreadable: {problem}", err=True)
    if len(found.problems) > _MOST_PROBLEMS:
        say(f"unreadable: {len(found.problems) - _MOST_PROBLEMS} more records", err=True)


def _text(found: Results, form: Form, table: str) -> str:
    from results import report

    if form is Form.html:
        return report.page(found)

    console = make_console()
    color = console.is_terminal and not console.no_color
    return report.text_of(found, table, form.value, console.width, color)


def _compare(found: Results, folder: Path) -> int:
    from results.report import check

    messages = check(found, folder)
    for message in messages:
        say(message)
    if not messages:
        say(f"{folder}: every file is what the records give")
    return int(bool(messages))
