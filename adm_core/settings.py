"""Validation of method settings: types, ranges, choices; unknown keys are told their nearest names."""

from __future__ import annotations

import functools
import json
from dataclasses import fields
from typing import Annotated, Any, get_type_hints

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError, create_model

from adm_core.card import SEVERAL
from adm_core.errors import AdmError, unknown


def _one_map(tap: str) -> str:
    if tap in SEVERAL:
        raise ValueError("a group of several maps, where one is read; name one of its members, or 'hint' or 'last'")
    return tap


Tap = Annotated[str, AfterValidator(_one_map)]
"""The type of a setting that names one place; groups of several maps are for ``tuple[str, ...]``."""


@functools.cache
def _validator(settings: type[Any]) -> TypeAdapter[Any]:
    hints = get_type_hints(settings, include_extras=True)
    columns: dict[str, Any] = {f.name: (hints[f.name], f.default) for f in fields(settings)}
    return TypeAdapter(create_model(settings.__qualname__, __config__=ConfigDict(strict=True), **columns))


def make_settings(method: str, settings: type[Any], given: dict[str, Any]) -> Any:
    """An instance of a method's ``Settings`` dataclass.

    Args:
        method: the method's name, for messages.
        settings: the dataclass; fields may carry ``Annotated[float, Field(gt=0)]`` or ``Literal`` types.
        given: what the user set; the rest keeps its defaults.

    Raises:
        AdmError: unknown key (with nearest names), wrong type, value out of range.
    """
    known = [f.name for f in fields(settings)]
    for key in given:
        if key not in known:
            raise unknown("setting", key, known, where=f"method '{method}'")
    try:
        # As JSON, where strict means that a list is a list, 2 is a number, and true or "2" is not.
        checked = _validator(settings).validate_json(json.dumps(given))  # type: ignore[arg-type]  # mypy takes no class for hashable
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        told = first["msg"].removeprefix("Value error, ").replace("valid array", "list").replace("valid tuple", "list")
        raise AdmError(f"method '{method}': setting '{key}' = {first['input']!r}: {told}") from None
    return settings(**{name: getattr(checked, name) for name in known})
