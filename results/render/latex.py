"""Tables as LaTeX in the style of booktabs. Every file compiles with ``booktabs`` and ``graphicx``."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from results.table import Row, Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # a line that begins with [ or * would be taken for what may follow \\
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "→": r"$\rightarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "Δ": r"$\Delta$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "·": r"$\cdot$",
    "\u202f": r"\,",
    "é": r"\'e",
}


def render(tables: Sequence[Table]) -> str:
    """The tables one after the other, each a float of its own."""
    head = "% \\usepackage{booktabs,graphicx}\n% \\usepackage[T1]{fontenc}\n"
    return head + "".join(f"\n{_table(table)}" for table in tables)


def escape(text: str) -> str:
    """The text as literal LaTeX on one line; characters that pdfLaTeX lacks become ``?``."""
    return "".join(_SPECIAL.get(char) or _plain(char) for char in " ".join(text.split(" ")))


def _plain(char: str) -> str:
    if char.isascii():
        return char if char.isprintable() else " "
    reduced = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()
    return "".join(_SPECIAL.get(part, part) for part in reduced) or "?"


def _table(table: Table) -> str:
    layout = "".join("r" if column.numeric else "l" for column in table.columns)
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{escape(table.title)}{_detail(table.subtitle)}}}",
    ]
    if table.rows:
        lines += [
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{@{{}}{layout}@{{}}}}",
            r"\toprule",
            _line([escape(column.heading) for column in table.columns]),
            r"\midrule",
            *_rows(table),
            r"\bottomrule",
            r"\end{tabular}}",
        ]
    lines += _notes(table)
    return "\n".join([*lines, r"\end{table}", ""])


def _detail(subtitle: str) -> str:
    return rf". {{\small {escape(subtitle)}}}" if subtitle else ""


def _rows(table: Table) -> list[str]:
    """The rows; a rule sets reference lines and unranked rows apart from the ranking."""
    lines: list[str] = []
    group = None
    for row in table.rows:
        kind = row.kind if row.kind in ("reference", "unranked") else "ranked"
        if group is not None and kind != group:
            lines.append(r"\midrule")
        group = kind
        lines.append(_line([_entry(table, row, index) for index in range(len(table.columns))]))
    return lines


def _entry(table: Table, row: Row, index: int) -> str:
    text = escape(table.text(row, index))
    if row.kind == "reference" and table.columns[index].key == "label":
        text = rf"\textit{{{text}}}"
    return rf"\textbf{{{text}}}" if row.entries[index].bold else text


def _line(texts: Sequence[str]) -> str:
    return " & ".join(texts) + r" \\"


def _notes(table: Table) -> list[str]:
    label = next(i for i, column in enumerate(table.columns) if column.key == "label")
    failed = [f"{table.text(row, label)}: {row.note}" for row in table.rows if row.note]
    notes = [escape(note) for note in [*failed, *table.notes]]
    return [r"\par\smallskip", r"\parbox{\linewidth}{\footnotesize " + r"\\ ".join(notes) + "}"] if notes else []
