"""Which splits a protocol trains, chooses and scores on: the part of its ``data`` that is the same for every task.

Loads no torch, so that plans can check it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from adm_core.errors import AdmError, unknown
from tasks.datasets.source import Split, check_classes


class SplitSettings(BaseModel):
    """Splits and their sizes; a task adds what it reads itself.

    Attributes:
        validation: ``own`` (the benchmark's own validation split), a share of train to carve off, or 0 for none.
        train_limit: use only so many training images.
        test_limit: score only so many test images.
        scored: split that gives a record its scores; ``validation`` is for choosing settings without a look at test.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    validation: Literal["own"] | float = 0.0
    train_limit: int | None = Field(None, gt=0)
    test_limit: int | None = Field(None, gt=0)
    scored: Literal["test", "validation"] = "test"

    @field_validator("validation", mode="before")
    @classmethod
    def _own_or_share(cls, given: Any) -> Any:
        is_share = isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given < 1
        if given != "own" and not is_share:
            raise ValueError("should be 'own', a share of the training images below 1, or 0")
        return given

    @model_validator(mode="after")
    def _scored_exists(self) -> Self:
        if self.scored == "validation" and not self.validation:
            raise ValueError("scored 'validation' needs a validation split; set data.validation to 'own' or a share")
        if self.scored == "validation" and self.test_limit:
            raise ValueError("scored 'validation' leaves no test images to limit; leave out data.test_limit")
        return self


Settings = TypeVar("Settings", bound=SplitSettings)


def read(model: type[Settings], data: Mapping[str, Any], where: str) -> Settings:
    """A task's settings as a protocol gives them.

    Args:
        model: the task's.
        data: the protocol's ``data`` part.
        where: which protocol, for messages.

    Raises:
        AdmError: a key is unknown (with the nearest) or missing, or a value is of a wrong type or out of range.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "scored"
        if first["type"] == "extra_forbidden":
            raise unknown("key", f"data.{key}", (f"data.{name}" for name in model.model_fields), where) from None
        reason = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
        raise AdmError(f"{where}: key 'data.{key}' = {data.get(key, first['input'])!r}: {reason}") from None


class Splits(NamedTuple):
    """What a task trains on, validates on (None: no such split) and scores."""

    train: Any
    validation: Any
    test: Any


def open_splits(settings: SplitSettings, load: Callable[[Split], Any], benchmark: str, classes: int) -> Splits:
    """The splits that the settings ask for; where validation is scored, the test split is not even read.

    Args:
        settings: the protocol's.
        load: reads a split; what it gives has ``classes``, ``carve`` and ``limit``.
        benchmark: by which messages name it.
        classes: of the benchmark.

    Raises:
        AdmError: a split has another number of classes, or is too small to carve another from.
    """

    def read(split: Split) -> Any:
        found = load(split)
        check_classes(len(found.classes), classes, f"benchmark {benchmark}, {split}")
        return found

    train, validation = read("train"), None
    if settings.validation == "own":
        validation = read("validation")
    elif settings.validation:
        train, validation = train.carve(float(settings.validation), seed=0)
    if settings.train_limit:
        train = train.limit(settings.train_limit)
    if settings.scored == "validation":
        return Splits(train, validation, validation)
    test = read("test")
    return Splits(train, validation, test.limit(settings.test_limit) if settings.test_limit else test)
