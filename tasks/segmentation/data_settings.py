"""The ``data`` part of a protocol for segmentation. Loads no torch, so that plans can check it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from adm_core.errors import AdmError, unknown


class Sliding(BaseModel):
    """Sliding-window inference: windows of ``crop`` pixels, every ``stride`` pixels, logits averaged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    crop: int = Field(gt=0)
    stride: int = Field(gt=0)


class DataSettings(BaseModel):
    """The ``data`` part of a protocol for segmentation.

    Attributes:
        crop: height and width of the training crops.
        scale: smallest and largest factor by which an image is resized before it is cropped.
        flip: mirror half of the images.
        colour: MMSegmentation's photometric distortion (brightness, contrast, saturation, hue). Where a method
            gives each network a view of its own, the colours alone differ.
        class_limit: draw a crop again (ten times at most) while one class fills more than this share of it.
        validation: ``own`` (the benchmark's own validation split), a share of train to carve off, or 0 for none.
        scored: split that gives a record its scores; ``validation`` is for choosing settings without a look at test.
        train_limit: use only so many training images.
        test_limit: score only so many test images.
        sliding: windows for evaluation; None: the whole image at once.
        pretrained: start backbones from the ImageNet weights that MMSegmentation's configuration names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    crop: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)
    flip: bool = True
    colour: bool = False
    class_limit: float = Field(1.0, gt=0, le=1)
    validation: Literal["own"] | float = 0.0
    scored: Literal["test", "validation"] = "test"
    train_limit: int | None = Field(None, gt=0)
    test_limit: int | None = Field(None, gt=0)
    sliding: Sliding | None = None
    pretrained: bool = False

    @field_validator("validation", mode="before")
    @classmethod
    def _own_or_share(cls, given: Any) -> Any:
        is_share = isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given < 1
        if given != "own" and not is_share:
            raise ValueError("should be 'own', a share of the training images below 1, or 0")
        return given

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if min(self.crop) < 1:
            raise ValueError("crop sides should be 1 pixel or more")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError("scale should be a smallest and a largest factor above 0, as in [0.5, 2.0]")
        if self.scored == "validation" and not self.validation:
            raise ValueError("scored 'validation' needs a validation split; set data.validation to 'own' or a share")
        return self


def read(data: Mapping[str, Any], where: str) -> DataSettings:
    """The settings as a protocol gives them.

    Args:
        data: the protocol's ``data`` part.
        where: which protocol, for messages.

    Raises:
        AdmError: a key is unknown (with the nearest) or missing, or a value is of a wrong type or out of range.
    """
    try:
        return DataSettings.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise unknown("key", f"data.{key}", (f"data.{name}" for name in DataSettings.model_fields), where) from None
        reason = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
        told = f"key 'data.{key}'" if key else "data"
        raise AdmError(f"{where}: {told}: {reason}, not {first['input']!r}") from None
