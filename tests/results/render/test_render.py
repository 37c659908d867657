"""Every form shows hostile texts as texts, and says in its own way what is bold, unranked or absent."""

from __future__ import annotations

import csv as csv_module
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.cells import cell_len

from results.render import csv, latex, markdown, terminal
from results.report import Results, render, tables_of
from results.table import Column, Entry, Row, Table
from results.tables import registry
from tests.results.golden_suite import HOSTILE

FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r\n=1", "  =1")


def table_of(label: str, note: str = "", title: str = "A table") -> Table:
    columns = (Column("label", "method"), Column("top1", "top-1 %", "spread", best="high"))
    first = Row((Entry((label,), True), Entry((80.123, 0.5), True)), "ranked", note)
    second = Row((Entry(("none",)), Entry((None, None))), "unranked")
    return Table("scores", title, columns, (first, second), "sub_title", {"block": title}, ("A note.",))


def test_numbers_keep_their_digits_in_csv_and_are_rounded_elsewhere() -> None:
    tables = [table_of("kd")]
    assert "80.123,0.5" in csv.render(tables)
    for text in (markdown.render(tables), latex.render(tables), terminal.render(tables)):
        assert "80.12 " in text and "80.123" not in text


@pytest.mark.parametrize("text", FORMULAS)
def test_a_spreadsheet_runs_no_cell(text: str) -> None:
    rows = list(csv_module.reader(io.StringIO(csv.render([table_of(text, note=text, title=text)]))))
    assert not [cell for row in rows for cell in row if cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert "'" + text.replace("\r\n", " ") in rows[1]


def test_negative_numbers_in_csv_stay_numbers() -> None:
    table = Table(
        "t", "t", (Column("label", "m"), Column("gain", "gain", "number")), (Row((Entry(("a",)), Entry((-0.5,)))),)
    )
    (row,) = csv_module.DictReader(io.StringIO(csv.render([table])))
    assert float(row["gain"]) == -0.5


def test_csv_reads_back_what_was_written(golden: Results) -> None:
    rows = list(csv_module.DictReader(io.StringIO(csv.render(tables_of(golden, "scores")))))
    shown = {row["label"].removeprefix("'") for row in rows}
    assert set(HOSTILE) <= shown
    assert {row["row_kind"] for row in rows} == {"ranked", "baseline", "reference", "unranked"}


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_a_label_as_it_is_and_keeps_the_grid(text: str) -> None:
    lines = markdown.render([table_of(text, note=text)]).splitlines()
    grid = [line for line in lines if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in grid} == {3}
    assert "<script" not in "\n".join(lines)
    assert markdown.escape("a|b *c* [d](e) `f` _g_ #h ~i~ $j$ <b>") == (
        r"a\|b \*c\* \[d\](e) \`f\` \_g\_ \#h \~i\~ \$j\$ &lt;b&gt;"
    )


def test_a_line_break_in_a_label_breaks_no_form() -> None:
    text = "two\nlines\r\nhere"
    grid = [line for line in markdown.render([table_of(text)]).splitlines() if line.startswith("|")]
    assert len(grid) == 4
    assert "two lines here" in latex.render([table_of(text)]).replace("  ", " ")
    assert "two lines  here" in terminal.render([table_of(text)])


@pytest.mark.parametrize("char", list('\\&%$#_{}~^<>|"[]*'))
def test_latex_escapes_every_special_character(char: str) -> None:
    escaped = latex.escape(f"a{char}b")
    assert escaped != f"a{char}b" and escaped.startswith("a") and escaped.endswith("b")
    bare = re.sub(r"\\[a-z]+\{\}|\\.|\{\[\}|\{\]\}|\{\*\}", "", escaped)
    assert not set(bare) & set('\\&%$#_{}~^<>|"[]*')


@pytest.mark.parametrize("text", ["*", "*kd", "[2pt]", "*[2pt]x"])
def test_a_row_or_note_is_not_taken_for_what_may_follow_a_line_break(text: str) -> None:
    shown = latex.render([table_of(text, note=text)])
    assert not re.search(r"\\\\\s*[*\[]", shown) and shown.count(latex.escape(text)) >= 2


def test_latex_keeps_to_characters_that_pdflatex_knows() -> None:
    assert latex.escape("Größe → ∞ é") == r"Gro?e $\rightarrow$ ? \'e"
    assert latex.render([table_of("模型 ♥ naïve")]).isascii()


def test_a_latex_file_says_what_it_needs_and_is_balanced(golden: Results) -> None:
    for kind in registry.names():
        text = render(tables_of(golden, kind), "latex")
        assert text.startswith("% \\usepackage{booktabs,graphicx}\n")
        assert text.count(r"\begin{table}") == text.count(r"\end{table}") == len(tables_of(golden, kind))
        plain = re.sub(r"\\.", "", text)
        assert plain.count("{") == plain.count("}")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
@pytest.mark.parametrize("kind", registry.names())
def test_latex_compiles(golden: Results, kind: str, tmp_path: Path) -> None:
    body = render(tables_of(golden, kind), "latex")
    head = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\usepackage[T1]{fontenc}\\begin{document}\n"
    (tmp_path / "x.tex").write_text(f"{head}{body}\\end{{document}}\n")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "x.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize("width", [40, 60, 100, 1000])
@pytest.mark.parametrize("kind", registry.names())
def test_terminal_lines_fit_the_terminal(golden: Results, kind: str, width: int) -> None:
    text = render(tables_of(golden, kind), "terminal", width)
    keys = 75 if kind == "claims" else 45  # the columns that tell rows apart are not split
    assert max(cell_len(line) for line in text.splitlines()) <= max(width, keys)


def test_a_split_table_repeats_what_tells_rows_apart(golden: Results) -> None:
    text = render(tables_of(golden, "scores"), "terminal", 60)
    assert text.count("=1+1") >= 3 and text.count("Δ none") == 3


def test_the_terminal_obeys_no_label() -> None:
    text = terminal.render([table_of("\x1b[31mred\x07 [bold]x[/bold] :smile:", note="\x1b]0;title\x07")], 100, False)
    assert "\x1b" not in text and "\x07" not in text
    assert "[bold]x[/bold] :smile:" in text


def test_terminal_colours_only_where_asked() -> None:
    plain, colored = terminal.render([table_of("kd")], 100, False), terminal.render([table_of("kd")], 100, True)
    assert "*80.12" in plain and "\x1b" not in plain
    assert "\x1b[1m80.12 ± 0.50\x1b[0m" in colored and "*80.12" not in colored
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored).count("\n") == plain.count("\n")


def test_long_labels_wrap_and_wide_characters_stay_aligned() -> None:
    text = terminal.render([table_of("word " * 20 + "x" * 60)], 200, False)
    assert "x" * 44 in text and "x" * 45 not in text
    lines = terminal.render([table_of("模型模型")], 100, False).splitlines()
    ends = [cell_len(line) for line in lines if "±" in line or line.endswith("top-1 % ↑") or line.endswith("–")]
    assert len(set(ends)) == 1
