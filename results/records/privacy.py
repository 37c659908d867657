"""What must not be recorded: absolute paths, and who or where somebody is."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

# A path needs a beginning: "top1/top5", "images/s" and "https://..." are not paths.
_ABSOLUTE_PATH = re.compile(r"(?:(?<=^)|(?<=[\s'\"(=\[,:<]))(?:file:/+|~?/(?!/)|[A-Za-z]:[\\/])[^\s'\"()\[\],:;<>]+")
_PERSONAL = {"host", "hostname", "node", "user", "username", "login", "home", "cwd", "ip"}


def without_paths(text: str) -> str:
    """The text with the folders of absolute paths left out: ``/home/ann/x.py`` becomes ``.../x.py``."""
    return _ABSOLUTE_PATH.sub(lambda found: ".../" + re.split(r"[\\/]", found[0].rstrip("\\/"))[-1], text)


def refuse_paths(text: str) -> str:
    """The text as it is.

    Raises:
        ValueError: it holds an absolute path.
    """
    if "/" not in text and "\\" not in text:  # the search takes as long as all the rest of a text's validation
        return text
    found = _ABSOLUTE_PATH.search(text)
    if found:
        raise ValueError(f"an absolute path ('{found[0]}') must not be recorded; give a name or a relative path")
    return text


def refuse_paths_within(value: JsonValue) -> JsonValue:
    """The value as it is.

    Raises:
        ValueError: it holds, at any depth, an absolute path or a number that is not finite.
    """
    if isinstance(value, str):
        refuse_paths(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    for item in (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ():
        refuse_paths_within(item)
    return value


def refuse_persons(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values as they are.

    Raises:
        ValueError: a key says who or where somebody is.
    """
    named = sorted(_PERSONAL & {key.lower() for key in values})
    if named:
        raise ValueError(f"'{named[0]}' says who or where somebody is and must not be recorded")
    return values
