"""Writes the tables of ``speed.md`` and of the README from what the benchmarks measured.

    OMP_NUM_THREADS=1 python -m pytest tests/benchmarks --benchmark-only -s --benchmark-json FILE.json
    python docs/speed.py FILE.json ...

A file of :mod:`tests.benchmarks.gpu_table` among them is the table of GPUs; ``docs/gpu-steps.json`` is the present one.

Several files are several runs; a later one takes the place of what it has measured again. A row says when, and on which
machine, only where that is not what the line above the table says.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- of benchmarks, by docs/speed.py: begin -->\n", "<!-- of benchmarks, by docs/speed.py: end -->\n"
GPU_BEGIN, GPU_END = "<!-- of a GPU, by docs/speed.py: begin -->\n", "<!-- of a GPU, by docs/speed.py: end -->\n"


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


def is_of_gpu(file: Path) -> bool:
    """Whether a file is the table of GPUs; one that cannot be read is not, and is told by what reads the others."""
    try:
        return "per_gpu" in json.loads(file.read_text())
    except (OSError, ValueError):
        return False


def gpu_table(made: dict[str, Any]) -> str:
    """What :mod:`tests.benchmarks.gpu_table` measured: a line for each way of running a step, a column a pair."""
    rows = {(row["side"], row["pair"]): row for row in made["rows"]}
    pairs = list(dict.fromkeys(pair for _, pair in rows))

    def told(side: str, pair: str) -> str:
        row = rows.get((side, pair), {})
        if "ms" not in row:
            return row.get("failed", "not measured")
        return f"{row['ms']:.1f} ms, {row['against_plain']:.2f} ×" if "against_plain" in row else f"{row['ms']:.1f} ms"

    lines = [
        f"Measured on {made['device']}, torch {made['torch']}, {made['day']}: batches of {made['batch_size']}, "
        f"the best of {made['rounds']} rounds of {made['steps']} steps.",
        "",
        "| a step of one cell, and how many times as fast as the plain loop | "
        + " | ".join(pairs).replace(":", " > ")
        + " |",
        "| :--- |" + " ---: |" * len(pairs),
    ]
    sides = dict.fromkeys(side for side, _ in rows)
    lines += [f"| {side} | " + " | ".join(told(side, pair) for pair in pairs) + " |" for side in sides]
    return "\n".join(lines) + "\n"


def put(page: Path, text: str, marks: tuple[str, str] = (BEGIN, END)) -> None:
    """Write a table between the two marks of a page.

    Raises:
        SystemExit: the page has not both marks, once each and in order.
    """
    first, last = marks
    before, begin, rest = page.read_text().partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end or first in after or last in after:
        raise SystemExit(f"{page}: a table belongs between the lines\n{first}{last}")
    page.write_text(before + begin + text + end + after)


def main(files: list[Path], root: Path = HERE.parent) -> None:
    """Write the tables.

    Args:
        files: of benchmarks.
        root: the folder of README.md and docs.
    """
    if not files:
        raise SystemExit(__doc__)
    of_gpu = [file for file in files if is_of_gpu(file)]
    for file in of_gpu:
        put(root / "docs" / "speed.md", gpu_table(json.loads(file.read_text())), (GPU_BEGIN, GPU_END))
    files = [file for file in files if file not in of_gpu]
    if not files:
        return
    rows = rows_of(files)
    headlines = [row for row in rows if row.headline]
    if not headlines:
        raise SystemExit("nothing of this is for the README: give the files of the other benchmarks as well")
    put(root / "docs" / "speed.md", table(rows))
    put(root / "README.md", table(headlines))


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
