"""How cells are run, as opposed to what they are: nothing here enters a cell's identity."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class RunOptions(BaseModel):
    """What a worker needs to know beside the cell and its protocol.

    Attributes:
        device: ``auto`` takes a GPU where one is visible.
        data_roots: folders in which data sets are looked for, before ``ADM_DATA``.
        method_files: Python files that register methods of the user's own.
        download: whether a missing data set may be fetched.
        files: SHA-256 to the file that a suite's own networks need: checkpoints and configs.
        folders: digest of the files of a suite's own benchmark to the folder of each of its splits.
        trusted: SHA-256 of the checkpoints whose code may be run.
        store: the store, where teachers' weights lie.
        gpus_per_cell: processes that train a cell together, each on a GPU of its own, or on a core where there is none.
        curves: whether a worker leaves a cell's curves in its work folder after each epoch, for a tracker.
        checkpoint_seconds: least time between two checkpoints; longer where they would take 2 % of the time or more.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: Literal["auto", "cpu", "cuda"] = "auto"
    data_roots: tuple[Path, ...] = ()
    method_files: tuple[Path, ...] = ()
    download: bool = False
    files: dict[str, Path] = {}
    folders: dict[str, dict[str, Path]] = {}
    trusted: tuple[str, ...] = ()
    store: Path
    gpus_per_cell: int = Field(1, ge=1)
    curves: bool = False
    checkpoint_seconds: float = Field(30.0, ge=0)
