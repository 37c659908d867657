"""The files of one cell's work folder, ``STORE/work/<id>/``, which parent and child share."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from adm_core.errors import AdmError
from adm_core.recipe import Protocol
from adm_files import read, replacing, why_not_written
from results.records.schema import Cell
from suites.work.options import RunOptions

WEIGHTS = "weights.safetensors"
TEACHER_WEIGHTS = "teacher.safetensors"
EXPORT = "student"
CHECKPOINT = "checkpoint.pt"
ARTEFACTS = "artefacts"
"""The folder of a store in which lies what cells share."""
_FOLDER = "work"


class Assignment(BaseModel):
    """What a worker is given: ``cell.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    cell: Cell
    protocol: Protocol
    options: RunOptions


class WorkFolder:
    """Reads and writes a cell's files; every JSON file is replaced whole or not at all.

    Attributes:
        path: the folder; made when something is first written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, store: Path, cell_id: str) -> WorkFolder:
        """The work folder of a cell in the store at a path."""
        return cls(store / _FOLDER / cell_id)

    @staticmethod
    def ids(store: Path) -> list[str]:
        """The cells that have a work folder in the store at a path, sorted."""
        return sorted(path.name for path in (store / _FOLDER).glob("*") if path.is_dir())

    @property
    def log(self) -> Path:
        """What the worker printed."""
        return self.path / "log.txt"

    @property
    def weights(self) -> Path:
        """The trained student's weights; a teacher that was trained alone is the student of its cell."""
        return self.path / WEIGHTS

    @property
    def teacher_weights(self) -> Path:
        """The weights of a teacher that was trained together with the student."""
        return self.path / TEACHER_WEIGHTS

    def note(self, line: str) -> None:
        """Add a line to the log, which a worker adds to as well.

        Raises:
            AdmError: it cannot be written.
        """
        try:
            with self.log.open("a", encoding="utf-8") as log:
                log.write(f"{line}\n")
        except OSError as error:
            raise AdmError(why_not_written(self.log, error)) from error

    def assign(self, assignment: Assignment) -> None:
        """Write ``cell.json``."""
        self._write("cell.json", assignment.model_dump(mode="json"))

    def assignment(self) -> Assignment:
        """Read ``cell.json``.

        Raises:
            AdmError: missing or damaged.
        """
        path = self.path / "cell.json"
        try:
            return Assignment.model_validate_json(read(path))
        except OSError as error:
            raise AdmError(f"{path}: cannot be read: {error.strerror}") from None
        except ValidationError as error:
            raise AdmError(f"{path}: is not a worker's assignment: {error.errors()[0]['msg']}") from None

    def report(self, progress: dict[str, Any], with_curves: bool = False) -> None:
        """Write ``progress.json``, and where they are wanted the curves in it apart.

        Displays look at the rest four times a second; curves are as long as the training was, and only trackers read
        them before the record has them.
        """
        if with_curves and "curves" in progress:
            self._write("curves.json", progress["curves"])
        self._write("progress.json", {name: value for name, value in progress.items() if name != "curves"})

    def progress(self) -> dict[str, Any]:
        """The latest progress, empty before the first."""
        return self._read("progress.json") or {}

    def curves(self) -> dict[str, list[float | None]]:
        """The curves so far, one value per epoch; empty before the first of this attempt, and where none are wanted."""
        return self._read("curves.json") or {}

    def bookmarks(self) -> dict[str, Any]:
        """How far each tracker was told of the cell, by its name."""
        return self._read("tracked.json") or {}

    def set_bookmark(self, tracker: str, bookmark: dict[str, Any]) -> None:
        """Keep how far a tracker was told."""
        self._write("tracked.json", self.bookmarks() | {tracker: bookmark})

    def conclude(self, outcome: dict[str, Any]) -> None:
        """Write ``outcome.json``, the worker's last act; of all these files it alone must survive a power cut."""
        self._write("outcome.json", outcome, durable=True)

    def outcome(self) -> dict[str, Any] | None:
        """What the worker concluded with, None while it has not."""
        return self._read("outcome.json")

    def forget_outcome(self) -> None:
        """Remove progress and outcome, so that the next attempt's are not mistaken for older ones."""
        for name in ("outcome.json", "progress.json", "curves.json"):
            (self.path / name).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what a finished cell no longer needs, and what a kill left half written; trained weights stay."""
        for path in [self.path / CHECKPOINT, *self.path.glob(".*")]:
            path.unlink(missing_ok=True)

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            loaded = json.loads(read(self.path / name))
        except (OSError, ValueError):  # absent, cut off, or another user's
            return None
        return loaded if isinstance(loaded, dict) else None

    def _write(self, name: str, content: dict[str, Any], durable: bool = False) -> None:
        path, text = self.path / name, json.dumps(finite(content), indent=1, allow_nan=False)
        try:
            with replacing(path, durable) as new:
                new.write_text(text, encoding="utf-8")
        except OSError as error:
            raise AdmError(why_not_written(path, error)) from error


def finite(value: Any) -> Any:
    """The same JSON value with every NaN and infinity replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
