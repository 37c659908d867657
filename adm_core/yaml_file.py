"""YAML files read into pydantic models; errors name file, line, column, key, value and the nearest valid key."""

from __future__ import annotations

import math
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from adm_core.errors import AdmError, nearest
from adm_core.yaml_nodes import Document, YamlFault

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
        AdmError: the file cannot be read, is not YAML or gives a key twice (line and column are named), is not a
            mapping, or holds a number that is not finite.
    """
    return _read(path).value  # type: ignore[no-any-return]


def _read(path: Path) -> Document:
    """A file whose value is a mapping of keys to values, with all its numbers finite."""
    try:
        document = Document(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise AdmError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AdmError(f"{path}: is not UTF-8 text") from None
    except YamlFault as fault:
        raise AdmError(f"{_at(path, fault.place)}: {fault}") from None
    if not isinstance(document.value, dict):
        holds = "nothing" if document.value is None else f"a {type(document.value).__name__}"
        raise AdmError(f"{path}: holds {holds}, not a mapping of keys to values")
    for keys, value in _numbers(document.value):
        if not math.isfinite(value):
            where = _at(path, document.place(keys))
            raise AdmError(f"{where}: key '{'.'.join(map(str, keys))}' = {value}: should be a finite number")
    return document


def _at(path: Path, place: str) -> str:
    return f"{path}, {place}" if place else str(path)


def read_model(path: Path, model: type[Model], **fixed: str) -> Model:
    """A YAML file as a pydantic model.

    Args:
        path: the file.
        model: what it is read into.
        fixed: fields that do not stand in the file, such as a name that is the file's own.

    Raises:
        AdmError: as :func:`read_mapping`, or a key is unknown, missing, or has a wrong value.
    """
    document = _read(path)
    try:
        return model.model_validate(document.value | fixed)
    except ValidationError as error:
        # the most telling fault: a misspelt key goes before the one it lacks
        faults = error.errors()
        fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
        location = _within(document.value, fault)
        alike = [other for other in faults if _within(document.value, other) == location]
        told = _explain(model, location, fault, alike)
        raise AdmError(f"{_at(path, document.place(location))}: {told}") from None


def _within(value: Any, fault: ErrorDetails) -> tuple[int | str, ...]:
    """Where a fault is in the file: of a value that may be of several kinds pydantic names the kind behind the key."""
    location = fault["loc"]
    if fault["type"] == "missing" or "[key]" in location:
        return location
    for depth, part in enumerate(location):
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return location[:depth]
    return location


def _explain(
    model: type[BaseModel], location: tuple[int | str, ...], fault: ErrorDetails, alike: Iterable[ErrorDetails]
) -> str:
    """Key, value, and what would be right: of several kinds, any."""
    value = fault["input"]
    key = ".".join(str(part) for part in location)
    if fault["type"] == "extra_forbidden":
        known = _keys_at(model, location[:-1])
        return f"unknown key '{key}' (value {_short(value)}); {nearest(str(location[-1]), known)}"
    if fault["type"] == "missing":
        return f"key '{key}' is missing"
    shown = "" if isinstance(value, dict) else f" = {_short(value)}"
    first, *others = dict.fromkeys(_message(other) for other in alike)
    message = ", or ".join([first, *(other.removeprefix("should be ") for other in others)])
    return f"key '{key}'{shown}: {message}" if key else message


def _numbers(value: Any, keys: tuple[int | str, ...] = ()) -> Iterator[tuple[tuple[int | str, ...], float]]:
    """Every float in nested mappings and lists, with the keys under which it stands."""
    if isinstance(value, float):
        yield keys, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in inner:
        yield from _numbers(item, (*keys, name))


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
        kind = _without_none(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(str(part))
            kind = field.annotation if field else None
        else:
            kind = _items_of(kind)
    models = [k for k in [kind, *typing.get_args(kind)] if isinstance(k, type) and issubclass(k, BaseModel)]
    return models[0].model_fields if models else ()


def _without_none(kind: Any) -> Any:
    """What an optional type holds beside None; any other type as it is."""
    held = [k for k in typing.get_args(kind) if k is not type(None)]
    return held[0] if type(None) in typing.get_args(kind) and len(held) == 1 else kind


def _items_of(kind: Any) -> Any:
    """What a list, tuple or dictionary type holds."""
    held = [k for k in typing.get_args(kind) if k is not Ellipsis]
    return held[-1] if held else None
