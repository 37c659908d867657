"""The forms in which tables are written to files, one file per table and form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from results.render import csv, latex, markdown
from results.table import FileForm, Table

FORMS: Mapping[FileForm, Callable[[Sequence[Table]], str]] = {
    "md": markdown.render,
    "tex": latex.render,
    "csv": csv.render,
}
"""File suffix to renderer."""
