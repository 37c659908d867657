"""The ``data`` part of a protocol for diffusion. Loads no torch, so that plans can check it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from tasks.datasets import splits

SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
"""The noise schedules of DDPM (arXiv:2006.11239) and of improved DDPM (arXiv:2102.09672), by Diffusers' names."""
STUDENT_KEYS = ("inherit",)
"""What says nothing about a teacher that is trained alone."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NoiseSettings(_Part):
    """How images are noised and what denoisers predict.

    Attributes:
        schedule: ``linear`` (β from 0.0001 to 0.02, arXiv:2006.11239) or ``cosine`` (arXiv:2102.09672).
        timesteps: T.
        prediction: the noise (``epsilon``), the velocity (``v_prediction``) or the clean image (``sample``).
    """

    schedule: Literal["linear", "cosine"] = "linear"
    timesteps: int = Field(1000, ge=10)
    prediction: Literal["epsilon", "v_prediction", "sample"] = "epsilon"


class SamplingSettings(_Part):
    """How images are made for scoring: deterministic DDIM in float32, from the same noises for every student.

    Attributes:
        steps: of DDIM, a divisor of the timesteps.
        further_steps: other numbers of steps; their distances stand in the slices table.
        guidance: strengths w of classifier-free guidance (arXiv:2207.12598), at which every network is sampled once
            more, in two passes a step; distance, precision and recall stand in the slices table.
        samples: how many images.
        batch_size: images at a time.
    """

    steps: int = Field(gt=0)
    further_steps: tuple[int, ...] = ()
    guidance: tuple[Annotated[float, Field(gt=0)], ...] = ()
    samples: int = Field(gt=0)
    batch_size: int = Field(256, gt=0)


class DataSettings(splits.SplitSettings):
    """The ``data`` part of a protocol for diffusion.

    Attributes:
        flip: mirror half of the images.
        noise: how images are noised.
        sampling: how images are made for scoring.
        snr_gamma: γ of min-SNR weights on the task's loss (arXiv:2303.09556); None: every timestep counts the same.
        conditional: networks are told the class.
        label_dropout: share of training images of which conditional networks are told no class, by a label of its own
            beside the classes, as classifier-free guidance trains them (arXiv:2207.12598).
        inherit: a student of a trained teacher begins with the weights of the teacher's blocks that it has (BK-SDM,
            arXiv:2305.15798), whatever the method.
    """

    flip: bool = False
    noise: NoiseSettings = NoiseSettings()
    sampling: SamplingSettings
    snr_gamma: float | None = Field(None, gt=0)
    conditional: bool = False
    label_dropout: float = Field(0.0, ge=0, lt=1, validate_default=True)
    inherit: bool = False

    @field_validator("label_dropout")
    @classmethod
    def _of_labels(cls, given: float, info: ValidationInfo) -> float:
        if given and not info.data.get("conditional"):
            raise ValueError("there are classes to drop where networks are told them; set data.conditional: true")
        sampling = info.data.get("sampling")
        if sampling is not None and sampling.guidance and not given:
            raise ValueError("data.sampling.guidance needs networks that are sometimes told no class; set a share")
        return given


def read(data: Mapping[str, Any], where: str) -> DataSettings:
    """The settings as a protocol gives them; see :func:`tasks.datasets.splits.read`."""
    return splits.read(DataSettings, data, where)
