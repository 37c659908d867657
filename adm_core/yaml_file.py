"""YAML files read into pydantic models, with errors that name file, key, value and the nearest valid key."""

from __future__ import annotations

import math
import typing
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from adm_core.errors import AdmError, nearest

Model = TypeVar("Model", bound=BaseModel)

_PLAIN = {
    "tuple_type": "should be a list",
    "list_type": "should be a list",
    "dict_type": "should be a mapping of keys to values",
    "model_type": "should be a mapping of keys to values",
    "string_type": "should be text",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
}
"""What pydantic says in the words of Python, in the words of YAML."""


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        AdmError: the file cannot be read, is not YAML (the line is named), is not a mapping, or holds a number that
            is not finite.
    """
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise AdmError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AdmError(f"{path}: is not UTF-8 text") from None
    except _GivenTwice as error:
        raise AdmError(f"{path}, line {error.line}: key '{error}' is given twice") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise AdmError(f"{path}{line}: is not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(loaded, dict):
        holds = "nothing" if loaded is None else f"a {type(loaded).__name__}"
        raise AdmError(f"{path}: holds {holds}, not a mapping of keys to values")
    for key, value in _numbers(loaded):
        if not math.isfinite(value):
            raise AdmError(f"{path}: key '{key}' = {value}: should be a finite number")
    return loaded


def read_model(path: Path, model: type[Model], **fixed: str) -> Model:
    """A YAML file as a pydantic model.

    Args:
        path: the file.
        model: what it is read into.
        fixed: fields that do not stand in the file, such as a name that is the file's own.

    Raises:
        AdmError: as :func:`read_mapping`, or a key is unknown, missing, or has a wrong value.
    """
    try:
        return model.model_validate(read_mapping(path) | fixed)
    except ValidationError as error:
        raise AdmError(f"{path}: {_explain(model, error)}") from None


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    """The most telling fault: key, value, and what would be right; a misspelt key goes before the one it lacks."""
    faults = error.errors()
    first = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    location, value = first["loc"], first["input"]
    key = ".".join(str(part) for part in location)
    if first["type"] == "extra_forbidden":
        known = _keys_at(model, location[:-1])
        return f"unknown key '{key}' (value {_short(value)}); {nearest(str(location[-1]), known)}"
    if first["type"] == "missing":
        return f"key '{key}' is missing"
    shown = "" if isinstance(value, dict) else f" = {_short(value)}"
    return f"key '{key}'{shown}: {_message(first)}" if key else _message(first)


class _GivenTwice(Exception):
    """A key that stands twice in one mapping."""

    def __init__(self, key: Hashable, line: int) -> None:
        super().__init__(str(key))
        self.line = line


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the C parser where there is one
    """YAML that refuses a key written twice instead of silently keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Hashable] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # the parser's own error says that such a key cannot be
            if key.value in seen:
                raise _GivenTwice(key.value, key.start_mark.line + 1)
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every float in nested mappings and lists, with the key under which it stands."""
    if isinstance(value, float):
        yield key, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in inner:
        yield from _numbers(item, f"{key}.{name}" if key else str(name))


def _message(fault: ErrorDetails) -> str:
    if fault["type"] == "too_short":
        return f"needs at least {fault['ctx']['min_length']}"
    text = _PLAIN.get(fault["type"]) or fault["msg"].removeprefix("Value error, ").replace("Input should", "should")
    return f"{text[0].lower()}{text[1:]}"


def _short(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> Iterable[str]:
    """The keys that are valid at a place of a nested model."""
    kind: Any = model
    for part in location:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(str(part))
            kind = field.annotation if field else None
        else:
            kind = _items_of(kind)
    models = [k for k in [kind, *typing.get_args(kind)] if isinstance(k, type) and issubclass(k, BaseModel)]
    return models[0].model_fields if models else ()


def _items_of(kind: Any) -> Any:
    """What a list, tuple or dictionary type holds."""
    held = [k for k in typing.get_args(kind) if k is not Ellipsis]
    return held[-1] if held else None
