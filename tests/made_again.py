"""Whether committed records are made again to the bit, on whatever machine this is: ``python -m tests.made_again``.

Trains one cell each of classification, segmentation and diffusion and compares its record with that of
``results/leaderboards``. Exit status 1 where they differ. Nothing is trained where nothing is promised: on processors
without AVX2, of another maker than that of the records, and under another version of torch than theirs.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from adm_core.cpu import instructions, maker
from results.records.store import Store
from suites.executors.local import LocalExecutor
from suites.executors.slots import slots
from suites.plan.plan import make_plan
from suites.plan.selection import KEYS
from suites.run.display import PlainDisplay
from suites.run.runner import Runner
from suites.spec.expand import Expansion, PlannedCell, expand
from suites.work.options import RunOptions
from tests.same_records import differences

LEADERBOARDS = Path(__file__).parents[1] / "results" / "leaderboards"
CELLS = {
    "quick": {"regime": "alone", "student": "resnet14w16s2", "seed": "0"},
    "seg-quick": {"regime": "alone", "student": "pspnet-r18w16", "seed": "0"},
    "adm-ablation-diffusion": {"regime": "online", "label": "mutual", "seed": "0"},
}
"""Suite to what one cell of it is known by; each trains without a teacher's weights."""


def cell_of(expansion: Expansion, wanted: dict[str, str]) -> PlannedCell:
    """The one cell of a suite that is meant."""
    (found,) = (cell for cell in expansion.cells if all(KEYS[key](cell) == wanted[key] for key in wanted))
    return found


def why_not(records: list[Path]) -> str | None:
    """Why the same bits are not promised here, or None where they are."""
    if "avx2" not in instructions():
        return "portable kernels are those of x86 processors with AVX2, which Linux does not tell of here"
    environments = [json.loads(file.read_text())["environment"] for file in records]
    devices, here = sorted({str(told["device"]) for told in environments}), maker()
    if {maker(device) for device in devices} != {here}:
        return f"the records were made on {', '.join(devices)}; no bits are promised on {here}'s processors"
    made = {told["torch"].split("+")[0] for told in environments}
    installed = version("torch").split("+")[0]
    same = made == {installed}
    return None if same else f"the records were made with torch {', '.join(sorted(made))}; here is {installed}"


def main() -> int:
    """Train and compare; the exit status."""
    expansions = {suite: expand(suite) for suite in CELLS}
    cells = {suite: cell_of(expansion, CELLS[suite]) for suite, expansion in expansions.items()}
    files = {suite: LEADERBOARDS / suite / "records" / f"{planned.id}.json" for suite, planned in cells.items()}
    missing = [
        f"{suite}: {CELLS[suite]} is cell {cells[suite].id}" for suite, file in files.items() if not file.exists()
    ]
    if missing:
        print("no record of", *missing, "make the leaderboards anew", sep="\n  ", file=sys.stderr)
        return 1
    reason = why_not(list(files.values()))
    if reason:
        print(f"skipped: {reason}")
        return 0
    chosen = replace(expansions["quick"], rows=tuple(cells.values()), artefacts=())
    with tempfile.TemporaryDirectory() as folder:
        store, places = Store(Path(folder)), slots("cpu")
        plan = make_plan(chosen, store, len(places))
        display = PlainDisplay(plan, "cells made again", Console(width=120, highlight=False))
        options = RunOptions(device="cpu", store=Path(folder))
        summary = Runner(plan, store, LocalExecutor(places), options, display).run()
        found = [line for suite in CELLS for line in differences(LEADERBOARDS / suite, Path(folder))[1]]
    print(*found, f"{len(cells)} cells made again, {len(found)} differences", sep="\n")
    return int(bool(found) or summary.exit_code)


if __name__ == "__main__":
    sys.exit(main())
