"""What a cell's id is made of, and how values become text of which digests are taken."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import Any

from pydantic import BaseModel


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values have equal text.

    Raises:
        ValueError: the value holds NaN or infinity.
    """
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def digest_of_values(value: Any) -> str:
    """The digest of a value in which 5 and 5.0 are one number."""
    return digest(_numbers(value))


@lru_cache(maxsize=1 << 16)
def identity(cell: str, rule: int) -> str:
    """The id of a cell.

    Args:
        cell: as JSON; by rule 2 with what has its default left out. A report asks for each twice, for the manifest
            and for the record.
        rule: 2: of what the cell is, without names of protocols, settings at their defaults, and the order in which
            methods are composed. 1: of all its fields, as written before schema 2.
    """
    content: dict[str, Any] = json.loads(cell)
    content.pop("rule", None)
    if rule == 1:
        for part in content["method"]:
            del part["at_default"]
        return digest(content)
    del content["protocol"]
    if "teacher_recipe" in content:
        del content["teacher_recipe"]["protocol"]
    content["method"] = _composed(content["method"])
    if "match" in content.get("stretch", {}):
        content["stretch"]["match"] = sorted(map(_composed, content["stretch"]["match"]), key=canonical_json)
    return digest_of_values(content)


def _composed(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What of a method's parts identifies it, in an order that is the same however they are written."""
    return sorted(map(_identifying, parts), key=lambda part: str(part["name"]))


def _identifying(part: dict[str, Any]) -> dict[str, Any]:
    left_out = part.get("at_default", ())
    settings = {key: value for key, value in part.get("settings", {}).items() if key not in left_out}
    return {key: value for key, value in part.items() if key != "at_default"} | {"settings": settings}


def _numbers(value: Any) -> Any:
    """The value with each whole float written as an integer."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
