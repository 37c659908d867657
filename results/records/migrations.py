"""How documents written by older versions become readable: an ordered chain of steps, one per version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from results.errors import RecordError
from results.records.schema import SCHEMA_VERSION

Document = dict[str, Any]
Migration = Callable[[Document], Document]


def _ids_by_the_first_rule(document: Document) -> Document:
    """Schema 2 makes ids by another rule. What a method's defaults are, and a protocol, is not known here, so that
    cells keep the ids that they have; ``adm migrate`` gives them those of the second rule."""
    if "cell" in document:
        document["cell"] = {**document["cell"], "rule": 1}
    if "rows" in document:
        document["rows"] = [{**row, "cell": {**row["cell"], "rule": 1}} for row in document["rows"]]
    return document


MIGRATIONS: Mapping[int, Migration] = {1: _ids_by_the_first_rule}
"""Version to the step that turns a document of it into one of the next version. Version 1 is the first."""


def migrate(
    document: Document,
    where: str,
    chain: Mapping[int, Migration] = MIGRATIONS,
    current: int = SCHEMA_VERSION,
) -> Document:
    """Bring a document up to the current version.

    Args:
        document: the parsed JSON; not changed.
        where: the file, for messages.
        chain: the steps; one for every version below ``current``.
        current: the version to reach.

    Raises:
        RecordError: no version, a version newer than ``current``, or one that no step starts from.
    """
    version = document.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise RecordError(f"{where}: 'schema_version' is {version!r}; expected a whole number from 1 to {current}")
    if version > current:
        raise RecordError(
            f"{where}: written by a newer ADM-Bench (schema {version}, this one reads up to {current}): upgrade"
        )
    for step in range(version, current):
        if step not in chain:
            raise RecordError(f"{where}: no migration leads from schema {step} to {step + 1}")
        document = {**chain[step](dict(document)), "schema_version": step + 1}
    return document
