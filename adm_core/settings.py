"""Method settings: their validation, where unknown keys are told their nearest names, and where they are searched."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError, create_model

from adm_core.card import SEVERAL
from adm_core.errors import AdmError, unknown


def _one_map(tap: str) -> str:
    if tap in SEVERAL:
        raise ValueError("a group of several maps, where one is read; name one of its members, or 'hint' or 'last'")
    return tap


Tap = Annotated[str, AfterValidator(_one_map)]
"""The type of a setting that names one place; groups of several maps are for ``tuple[str, ...]``."""


Acts = Callable[[Any, str], bool]
"""Told a method's settings and the regime, says whether one of the settings acts on anything there."""


def _everywhere(_settings: Any, _regime: str) -> bool:
    return True


@dataclass(frozen=True)
class Search:
    """Where the values of a setting are searched, both ends included.

    Attributes:
        low: the lowest value; above 0 on a ``log`` scale.
        high: the highest value.
        scale: ``log``, on which equal factors are equally far apart, or ``linear``.
        acts: where other values of the setting change anything, and it is searched.
    """

    low: float
    high: float
    scale: Literal["log", "linear"] = "log"
    acts: Acts = _everywhere

    def at(self, share: float) -> float:
        """The value at a share in [0, 1] of the way from ``low`` to ``high``, to three significant digits."""
        if self.scale == "log":
            value = self.low * (self.high / self.low) ** share
        else:
            value = self.low + (self.high - self.low) * share
        return float(f"{value:.3g}")


def searched(
    default: float, low: float, high: float, scale: Literal["log", "linear"] = "log", acts: Acts = _everywhere
) -> Any:
    """A field of ``Settings`` that ``adm tune`` searches: ``weight: float = searched(1.0, 0.1, 10.0)``.

    Args:
        default: the paper's value.
        low: the lowest value that is tried.
        high: the highest one.
        scale: ``log`` for weights and temperatures, ``linear`` for shares.
        acts: where the setting acts, if not everywhere: ``lambda s, regime: s.kd_weight > 0``.

    Raises:
        AdmError: the range is empty, lacks the default, or reaches 0 on a log scale.
    """
    told = f"searched({default:g}, {low:g}, {high:g}, scale='{scale}')"
    if scale not in ("log", "linear"):
        raise AdmError(f"{told}: the scale is 'log' or 'linear'")
    if not low < high:
        raise AdmError(f"{told}: the range is empty; give its lower end first")
    if scale == "log" and low <= 0:
        raise AdmError(f"{told}: a log scale begins above 0; raise the lower end, or search on a linear scale")
    if not low <= default <= high:
        raise AdmError(f"{told}: the default lies outside of the range")
    return field(default=default, metadata={"search": Search(low, high, scale, acts)})


def searches(settings: type[Any]) -> dict[str, Search]:
    """The settings of a ``Settings`` dataclass that are searched, in its order, with their ranges."""
    return {f.name: f.metadata["search"] for f in fields(settings) if "search" in f.metadata}


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
