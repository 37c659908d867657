"""What must not be recorded: absolute paths, and who or where somebody is."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

# A path needs a beginning: "top1/top5", "images/s" and "https://..." are not paths.
_BEGINNING = r"(?:(?<=^)|(?<=[\s'\"`(=\[{,:;<>|!&@]))"
_ROOT = r"(?:file:/+|~\w*/(?!/)|/(?!/)|[A-Za-z]:[\\/]|\\\\(?=[\w.$-]+\\))"
_NAME = r"[^\s'\"`()\[\]{},:;<>|]"
_WORD = _NAME.replace("^", r"^/\\")
_ABSOLUTE_PATH = re.compile(_BEGINNING + _ROOT + _NAME + "+")
# Folders may have spaces in their names: between quotes all is path, elsewhere up to three more words before a slash.
_WITH_SPACES = re.compile(
    rf"(?P<quote>['\"`])(?P<quoted>{_ROOT}[^'\"`\n]+)(?P=quote)"
    rf"|(?P<bare>{_BEGINNING}{_ROOT}{_NAME}+(?:(?: {_WORD}+){{1,3}}[/\\]{_NAME}*)*)"
)
_HOMES = re.compile(r"(?:[A-Za-z]:)?[\\/](?:home|Users)[\\/][^\\/]+|~\w*")
_LONGEST_REASON = 1000
_PERSONAL = {"host", "hostname", "node", "user", "username", "login", "home", "cwd", "ip"}


def without_paths(text: str) -> str:
    """The text with the folders of absolute paths left out: ``/home/ann/x.py`` becomes ``.../x.py``."""
    return _WITH_SPACES.sub(_shortened, text)


def _shortened(found: re.Match[str]) -> str:
    if found["quoted"] is not None:
        return f"{found['quote']}{_last_part(found['quoted'])}{found['quote']}"
    first, *further = found["bare"].split(" ")
    if further and re.search(r"\.\w{1,8}$", first):  # a file's name: what follows is the sentence
        return f"{_last_part(first)} {without_paths(' '.join(further))}"
    return _last_part(found["bare"])


def _last_part(path: str) -> str:
    """What of a path may be told: not even that where it is somebody's home."""
    whole = path.rstrip("\\/")
    return "..." if _HOMES.fullmatch(whole) else ".../" + re.split(r"[\\/]", whole)[-1]


def as_reason(text: str) -> str:
    """The text without absolute paths, and cut where it is longer than anybody reads; the log has all of it."""
    short = without_paths(text)
    if len(short) <= _LONGEST_REASON:
        return short
    kept = _LONGEST_REASON - 50
    return f"{short[:kept]}... ({len(short) - kept} more characters in the log)"


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
