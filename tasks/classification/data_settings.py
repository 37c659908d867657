"""The ``data`` part of a protocol for image classification. Loads no torch, so that plans can check it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from adm_core.errors import AdmError, unknown


class DataSettings(BaseModel):
    """The ``data`` part of a protocol for image classification.

    Attributes:
        validation: ``own`` (the benchmark's own validation split), a share of train to carve off, or 0 for none.
        train_limit: use only so many training images, classes in equal parts.
        test_limit: score only so many test images, classes in equal parts.
        scored: split that gives a record its scores; ``validation`` is for choosing settings without a look at test.
        crop_padding: pixels of padding before a random crop of the original size.
        flip: mirror half of the images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    validation: Literal["own"] | float = 0.0
    train_limit: int | None = Field(None, gt=0)
    test_limit: int | None = Field(None, gt=0)
    scored: Literal["test", "validation"] = "test"
    crop_padding: int = Field(4, ge=0)
    flip: bool = True

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
        return self


def read(data: Mapping[str, Any], where: str) -> DataSettings:
    """The settings as a protocol gives them.

    Args:
        data: the protocol's ``data`` part.
        where: which protocol, for messages.

    Raises:
        AdmError: an unknown key (with the nearest), or a value of a wrong type or out of range.
    """
    try:
        return DataSettings.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "scored"
        if first["type"] == "extra_forbidden":
            raise unknown("key", f"data.{key}", (f"data.{name}" for name in DataSettings.model_fields), where) from None
        reason = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
        raise AdmError(f"{where}: key 'data.{key}' = {data.get(key, first['input'])!r}: {reason}") from None
