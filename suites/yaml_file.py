"""YAML files read into pydantic models, with errors that name file, key, value and the nearest valid key."""

from __future__ import annotations

import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from adm_core.errors import AdmError, nearest

Model = TypeVar("Model", bound=BaseModel)


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        AdmError: the file cannot be read, is not YAML (the line is named), or is not a mapping.
    """
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise AdmError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AdmError(f"{path}: is not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise AdmError(f"{path}{line}: is not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(loaded, dict):
        raise AdmError(f"{path}: holds {type(loaded).__name__}, not a mapping of keys to values")
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


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the C parser where there is one
    """YAML that refuses a key written twice instead of silently keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"key '{key.value}' is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    first = error.errors()[0]
    location, value = first["loc"], first["input"]
    key = ".".join(str(part) for part in location) or "the file"
    if first["type"] == "extra_forbidden":
        known = _keys_at(model, location[:-1])
        return f"unknown key '{key}' (value {_short(value)}); {nearest(str(location[-1]), known)}"
    if first["type"] == "missing":
        return f"key '{key}' is missing"
    message = first["msg"].removeprefix("Value error, ")
    return f"key '{key}' = {_short(value)}: {message[0].lower()}{message[1:]}"


def _short(value: Any) -> str:
    text = repr(value)
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
