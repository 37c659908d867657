"""``python -m tests.faults --kills 200``: what a suite's run survives, counted.

A suite of real cells is trained calmly once, then again and again under faults at random moments, until so many kills
have been dealt out. After each round tables and records must be those of the calm run. Every step of every training
is noted, so that what was done twice is counted and not estimated.

Exit status 1: a cell was lost or run twice, or a table or record differs, or a runner ended as it must not.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from tests.faults.tally import measure

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="tests.faults", description="Count what a suite's run survives.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of what happens when")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="adm-faults-"))
    suite = Path(__file__).with_name("faults.yaml")
    tally = measure(
        suite, folder, given.kills, random.Random(given.seed), say=lambda line: print(line, file=sys.stderr)
    )
    print(tally.table())
    if given.json:
        given.json.write_text(json.dumps(tally.as_json(), indent=1) + "\n")
    print(f"stores and logs of the runners: {folder}", file=sys.stderr)
    sys.exit(int(bool(tally.wrong)))
