"""Writes the tables of ``speed.md`` and of the README from what the benchmarks measured.

    OMP_NUM_THREADS=1 python -m pytest tests/benchmarks --benchmark-only -s --benchmark-json FILE.json
    python docs/speed.py FILE.json ...

Several files are several runs; a later one takes the place of what it has measured again. A row says when, and on which
machine, only where that is not what the line above the table says.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- of benchmarks, by docs/speed.py: begin -->\n", "<!-- of benchmarks, by docs/speed.py: end -->\n"


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        what: was measured.
        result: in words.
        headline: it stands in the README as well.
        where: machine, libraries and day.
    """

    what: str
    result: str
    headline: bool
    where: str


def rows_of(files: list[Path]) -> list[Row]:
    """The measurements of benchmark files, in the order of the benchmarks' names.

    Raises:
        SystemExit: a file is not what pytest-benchmark writes, or none of its benchmarks told anything.
    """
    found: dict[tuple[str, str], Row] = {}
    for file in files:
        try:
            run = json.loads(file.read_text())
            machine, day, benchmarks = run["machine_info"], run["datetime"][:10], run["benchmarks"]
            cpu = machine["cpu"].get("count")
            where = f"{machine['processor']} ({machine['kernels']}), {cpu} cores, torch {machine['torch']}, {day}"
            for made in benchmarks:
                for row in made["extra_info"].get("rows", ()):
                    key = made["fullname"], row["what"]
                    found[key] = Row(row["what"], row["result"], row["headline"], where)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SystemExit(f"{file}: not a --benchmark-json file of tests/benchmarks ({error!r})") from None
    if not found:
        raise SystemExit(f"{', '.join(map(str, files))}: no benchmark told anything; was it run with --benchmark-only?")
    return [found[key] for key in sorted(found)]


def table(rows: list[Row]) -> str:
    """Rows as a Markdown table below a line that says where most were measured."""
    where = Counter(row.where for row in rows).most_common(1)[0][0]
    lines = [f"Measured on {where}.", "", "| what | measured |", "| :--- | ---: |"]
    lines += [f"| {row.what} | {row.result}{'' if row.where == where else f' ({row.where})'} |" for row in rows]
    return "\n".join(lines) + "\n"


def put(page: Path, text: str) -> None:
    """Write a table between the two marks of a page.

    Raises:
        SystemExit: the page has not both marks, once each and in order.
    """
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise SystemExit(f"{page}: a table belongs between the lines\n{BEGIN}{END}")
    page.write_text(before + BEGIN + text + END + after)


def main(files: list[Path], root: Path = HERE.parent) -> None:
    """Write both tables.

    Args:
        files: of benchmarks.
        root: the folder of README.md and docs.
    """
    if not files:
        raise SystemExit(__doc__)
    rows = rows_of(files)
    headlines = [row for row in rows if row.headline]
    if not headlines:
        raise SystemExit("nothing of this is for the README: give the files of the other benchmarks as well")
    put(root / "docs" / "speed.md", table(rows))
    put(root / "README.md", table(headlines))


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
