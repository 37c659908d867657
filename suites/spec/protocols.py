"""A block's protocol: found, checked, and identified by all that it does. Loads no torch."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from adm_core.errors import AdmError, nearest
from adm_core.recipe import Protocol
from results.records.identity import digest_of_values
from suites.spec.definition import Block, load_protocol
from tasks import catalogue

CARVED = 0.1
"""Share of train that is scored where settings are chosen and the protocol has no validation split."""


def protocol_of(block: Block, given: str, folder: Path | None, own: Iterable[str], where: str) -> tuple[str, Protocol]:
    """The protocol that a block gives by name or path, with its name; checked for the block's task and networks.

    Args:
        block: of a suite.
        given: name or path.
        folder: to which a path is relative.
        own: names of the suite's own networks.
        where: what names the protocol, for messages.

    Raises:
        AdmError: no such protocol, a mistake in its file, another task's, or a pattern that matches no network.
    """
    name, protocol = load_protocol(given, folder, where)
    if protocol.task != block.task:
        raise AdmError(f"{where} '{name}' is for task '{protocol.task}', not '{block.task}'")
    catalogue.check_data(block.task, protocol.data, f"{where} '{name}'")
    known = [*catalogue.networks(block.task), *own]
    for pattern in protocol.recipe.networks:
        if not catalogue.is_network(block.task, pattern) and not fnmatch.filter(known, pattern):
            told = f"'{pattern}' matches none of the {len(known)} networks of task '{block.task}' and of the suite"
            raise AdmError(f"{where} '{name}', recipe.networks: {told}; {nearest(pattern, known)}")
    return name, protocol


def canonical(protocol: Protocol) -> dict[str, Any]:
    """All that a protocol does, as plain JSON: task, recipe and data as validated, without what is at its default."""
    data = catalogue.check_data(protocol.task, protocol.data, f"protocol '{protocol.title}'")
    recipe, settings = (model.model_dump(mode="json", exclude_defaults=True) for model in (protocol.recipe, data))
    return {"task": protocol.task, "recipe": recipe, "data": settings}


def protocol_digest(protocol: Protocol) -> str:
    """What identifies a protocol: all that it does, not its name, title nor source."""
    return digest_of_values(canonical(protocol))


def on_validation(name: str, protocol: Protocol) -> tuple[str, Protocol]:
    """The protocol's twin whose scores are those of a validation split, with its name; test is never opened.

    The split is the one that the protocol validates on, or :data:`CARVED` of train where it has none. A protocol that
    scores validation data is its own twin.
    """
    data = {key: value for key, value in protocol.data.items() if key != "test_limit"}
    data |= {"validation": data.get("validation") or CARVED, "scored": "validation"}
    if data == protocol.data:
        return name, protocol
    title = f"{protocol.title}, scored on the validation split"
    return f"{name}-validation", protocol.model_copy(update={"title": title, "data": data})


def resolved(name: str, protocol: Protocol) -> dict[str, Any]:
    """A protocol as a store keeps it: its name and texts, and every value in force."""
    data = catalogue.check_data(protocol.task, protocol.data, f"protocol '{name}'")
    return {"name": name, **protocol.model_dump(mode="json"), "data": data.model_dump(mode="json")}
