"""Which parts of the data set apart records that may not be compared."""

from __future__ import annotations

import re
from collections.abc import Mapping

from results.analysis.blocks import Block, Line

_NAMED = re.compile(r"\S+ [0-9a-f]+(?:, \S+ [0-9a-f]+)*")
_UNNAMED = "data"
"""What digests stand for that do not name their parts."""
_ABSENT = "none"


def told(block: Block) -> str:
    """The parts whose digests differ between the ok records of a block, each digest with the rows that have it.

    E.g. ``extractor (9a12: none, kd; 77c0: adm, fitnet of seed 1)``; empty for a block that is comparable.
    """
    found = differing({record.id: record.data_digest for record in block.records() if record.data_digest})
    return ", ".join(f"{part} ({_rows(block, digests)})" for part, digests in found.items())


def differing(digests: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The parts in which data digests differ: part → key → digest of the part, ``none`` where a key has no such part.

    Args:
        digests: key, such as a record's id, to data digest. Parts are those that all digests name, as in
            ``train 1a2b, extractor 9a12``, or ``data`` where some digest names none.
    """
    named = all(_NAMED.fullmatch(digest) for digest in digests.values())
    parts = {key: _parts(digest) if named else {_UNNAMED: digest} for key, digest in digests.items()}
    names = dict.fromkeys(name for own in parts.values() for name in own)
    found = {name: {key: own.get(name, _ABSENT) for key, own in parts.items()} for name in names}
    return {name: held for name, held in found.items() if len(set(held.values())) > 1}


def _parts(digest: str) -> dict[str, str]:
    return dict(part.split(" ") for part in digest.split(", "))


def _rows(block: Block, digests: Mapping[str, str]) -> str:
    rows: dict[str, list[str]] = {}
    for line in block.lines:
        seeds: dict[str, list[int]] = {}
        for seed, record in sorted(line.records.items()):
            if record.id in digests:
                seeds.setdefault(digests[record.id], []).append(seed)
        for digest, having in seeds.items():
            rows.setdefault(digest, []).append(_row(line, having, len(seeds) == 1))
    return "; ".join(f"{digest}: {', '.join(labels)}" for digest, labels in rows.items())


def _row(line: Line, seeds: list[int], whole: bool) -> str:
    if whole:
        return line.label
    return f"{line.label} of seed{'s' if len(seeds) > 1 else ''} {' and '.join(map(str, seeds))}"
