"""Whether two stores hold the same numbers, to the bit: ``python -m tests.same_records STORE STORE``.

Cells are matched by their identity; compared are status, scores, curves, the digest of the frozen teacher's weights and
what was scored on. Times, memory and versions may differ. Exit status 1 where anything differs or nothing is shared.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

NUMBERS = ("status", "cell", "scores", "primary", "curves", "capabilities", "data_digest")


def numbers(file: Path) -> dict[str, Any]:
    """What of a record must not move."""
    record = json.loads(file.read_text())
    return {key: record.get(key) for key in NUMBERS} | {"teacher": (record.get("teacher") or {}).get("digest")}


def differences(first: Path, second: Path) -> tuple[int, list[str]]:
    """How many cells both stores hold, and what differs in them."""
    told, shared = [], sorted({f.name for f in (first / "records").glob("*.json")} & {
        f.name for f in (second / "records").glob("*.json")})  # fmt: skip
    for name in shared:
        one, two = (numbers(store / "records" / name) for store in (first, second))
        told += [f"{name.removesuffix('.json')}: {key} differs" for key in one if one[key] != two[key]]
    return len(shared), told


if __name__ == "__main__":
    count, found = differences(Path(sys.argv[1]), Path(sys.argv[2]))
    print(*found, f"{count} cells in both, {len(found)} differences", sep="\n")
    sys.exit(bool(found) or not count)
