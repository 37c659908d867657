"""Which parts of the data set apart the rows of a block that may not be compared."""

from __future__ import annotations

import re
from collections.abc import Mapping

from results.tables.blocks import Block, Line

_NAMED = re.compile(r"\S+ [0-9a-f]+(?:, \S+ [0-9a-f]+)*")
_UNNAMED = "data"
"""What digests stand for that do not name their parts."""
_ABSENT = "none"


def told(block: Block) -> str:
    """The parts whose digests differ between the ok records of a block, each digest with the rows that have it.

    E.g. ``extractor (9a12: none, kd; 77c0: adm, fitnet of seed 1)``; the parts are those that the records name, as in
    ``train 1a2b, extractor 9a12``, or ``data`` where some record names none. Empty for a block that is comparable.
    """
    found = {record.id: record.data_digest for record in block.records() if record.data_digest}
    named = all(_NAMED.fullmatch(digest) for digest in found.values())
    parts = {cell_id: _parts(digest) if named else {_UNNAMED: digest} for cell_id, digest in found.items()}
    names = dict.fromkeys(name for digests in parts.values() for name in digests)
    differing = [name for name in names if len({digests.get(name) for digests in parts.values()}) > 1]
    return ", ".join(f"{name} ({_rows(block, name, parts)})" for name in differing)


def _parts(digest: str) -> dict[str, str]:
    return dict(part.split(" ") for part in digest.split(", "))


def _rows(block: Block, name: str, parts: Mapping[str, Mapping[str, str]]) -> str:
    rows: dict[str, list[str]] = {}
    for line in block.lines:
        seeds: dict[str, list[int]] = {}
        for seed, record in sorted(line.records.items()):
            if record.id in parts:
                seeds.setdefault(parts[record.id].get(name, _ABSENT), []).append(seed)
        for digest, having in seeds.items():
            rows.setdefault(digest, []).append(_row(line, having, len(seeds) == 1))
    return "; ".join(f"{digest}: {', '.join(labels)}" for digest, labels in rows.items())


def _row(line: Line, seeds: list[int], whole: bool) -> str:
    if whole:
        return line.label
    return f"{line.label} of seed{'s' if len(seeds) > 1 else ''} {' and '.join(map(str, seeds))}"
