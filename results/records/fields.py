"""The types of what records hold. Nothing in a record is an absolute path, a person, NaN or infinite."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from results.records.privacy import as_reason, refuse_paths, refuse_paths_within

Number = Annotated[float, Field(allow_inf_nan=False)]
"""A finite float."""
Text = Annotated[str, AfterValidator(refuse_paths)]
"""Text that holds no absolute path."""
Reason = Annotated[str, AfterValidator(as_reason)]
"""Free text, mostly from an exception; absolute paths in it are cut to their last part, and a long one is cut."""
Hex16 = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
"""16 hexadecimal digits."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 of a file's content."""
Overrides = Annotated[dict[str, JsonValue], AfterValidator(refuse_paths_within)]
"""Plain JSON of any depth that holds no absolute path."""
Scalar = bool | int | Number | Text | None
Setting = Scalar | list[Scalar]


class Stored(BaseModel):
    """A part of what is stored: unknown keys are refused, and nothing is changed once it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)
