"""What a suite defines itself, as its file states it: networks, and benchmarks of image folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from results.records.fields import Overrides

_CONFIGS = (".py", ".json", ".yaml", ".yml")
_Share = Annotated[float, Field(ge=0, le=1)]
_Positive = Annotated[float, Field(gt=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OwnNetwork(_Frozen):
    """A network that the suite defines itself; pairs name it like any other.

    Attributes:
        base: a network name that the task knows, or a config file (``.py``, ``.json``, ``.yaml``, relative to the
            suite's) or a folder, which only some tasks build from.
        overrides: what it changes in its base, in the task's own words; plain JSON.
        checkpoint: a file with weights (relative to the suite's), or what the task finds one by; they are a frozen
            teacher's, and not trained here.
    """

    base: str
    overrides: Overrides = {}
    checkpoint: Path | None = None

    @property
    def is_file(self) -> bool:
        """Whether the base is a config file."""
        return self.base.endswith(_CONFIGS)


class Normalisation(_Frozen):
    """What pixel values in 0..1 are brought to before networks see them: ImageNet's, by default.

    Attributes:
        mean: per channel (red, green, blue); subtracted.
        std: per channel; divided by.
    """

    mean: tuple[_Share, _Share, _Share] = (0.485, 0.456, 0.406)
    std: tuple[_Positive, _Positive, _Positive] = (0.229, 0.224, 0.225)


class SplitFolders(_Frozen):
    """The folders of a benchmark's splits, below its own.

    Attributes:
        train: what is trained on.
        test: what is scored.
        validation: for ``data.validation: own``; None: there is none, and one may be carved from train.
    """

    train: str = "train"
    test: str
    validation: str | None = None


class OwnBenchmark(_Frozen):
    """A folder of labelled images in torchvision's layout, ``SPLIT/CLASS/IMAGE``; blocks name it like any other.

    Attributes:
        folder: where it lies, relative to the suite's file.
        classes: how many class folders each split has.
        image: side in pixels of the images that networks see.
        split: the folders of its splits; None: ``train``, and ``test`` with ``val`` as validation split, or ``val``
            as test split where there is no ``test``.
        normalisation: of pixel values.
    """

    folder: Path
    classes: int = Field(gt=1)
    image: int = Field(224, ge=8)
    split: SplitFolders | None = None
    normalisation: Normalisation = Normalisation()
