"""The folder in which records, manifests and sample pictures lie: whole files or none, each read by itself."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from adm_files import read, replacing, why_not_written
from results.errors import RecordError
from results.records.migrations import migrate
from results.records.schema import SCHEMA_VERSION, Cell, Manifest, Record

_Model = TypeVar("_Model", bound=BaseModel)
_CELL_ID = re.compile(r"[0-9a-f]{16}")
_AGAIN = "run its suite again to train it anew"
_VERSION = re.compile(rb'"schema_version"\s*:\s*(\d+)')


class Store:
    """Records and manifests under one folder.

    Attributes:
        root: the folder; made when something is first written.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._records = self.root / "records"

    def record_path(self, cell_id: str) -> Path:
        """Where the record of a cell lies."""
        return self._records / f"{cell_id}.json"

    def manifest_path(self, suite: str) -> Path:
        """Where the manifest of a suite lies."""
        return self.root / "suites" / f"{suite}.json"

    def samples_path(self, cell_id: str) -> Path:
        """Where the picture of the images lies that a cell's networks make."""
        return self.root / "samples" / f"{cell_id}.png"

    def ids(self) -> list[str]:
        """The cells that have a record, sorted."""
        return sorted(path.stem for path in self._records.glob("*.json") if _CELL_ID.fullmatch(path.stem))

    def mentions(self, cell_id: str, words: Iterable[str]) -> bool:
        """Whether one of some words stands in a cell's record, which is not parsed; no where it cannot be read."""
        try:
            content = read(self.record_path(cell_id))
        except OSError:
            return False
        return any(word.encode() in content for word in words)

    def set_aside(self, cell_id: str) -> None:
        """Keep an unreadable record under another name, so that writing a new one loses nothing.

        Raises:
            RecordError: the folder cannot be written.
        """
        path = self.record_path(cell_id)
        try:
            path.replace(path.with_suffix(".json.unreadable"))
        except FileNotFoundError:
            return
        except OSError as error:
            raise RecordError(why_not_written(path, error)) from error

    def protocol_path(self, digest: str) -> Path:
        """Where the protocol lies that cells name by a digest."""
        return self.root / "protocols" / f"{digest}.json"

    def write_protocol(self, digest: str, protocol: Mapping[str, Any]) -> None:
        """Keep a protocol under its digest, unless it is there.

        Args:
            digest: by which cells name it.
            protocol: ``name``, ``title``, ``source``, ``task``, ``recipe`` and ``data``, defaults included.

        Raises:
            RecordError: the disk is full or the folder cannot be written.
        """
        path = self.protocol_path(digest)
        if not path.exists():
            write_atomically(path, json.dumps(protocol, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def protocols(self, cells: Iterable[Cell]) -> dict[str, dict[str, Any]]:
        """The protocols of some cells and of their teachers by digest, as :meth:`write_protocol` kept them.

        Those that the store has not are left out.

        Raises:
            RecordError: a file is damaged.
        """
        digests: set[str] = set()
        for cell in cells:
            digests |= {cell.protocol_digest}
            digests |= {cell.teacher_recipe.protocol_digest} if cell.teacher_recipe else set()
        paths = {digest: self.protocol_path(digest) for digest in sorted(digests)}
        return {digest: _read_protocol(path) for digest, path in paths.items() if path.is_file()}

    def of_earlier_schemas(self, besides: Container[str] = ()) -> list[str]:
        """The cells whose records an earlier version wrote, by the first bytes of each; sorted.

        Args:
            besides: cells that are not looked at: their records were read, and have ids of the present rule.
        """
        earlier = []
        for cell_id in (cell_id for cell_id in self.ids() if cell_id not in besides):
            with contextlib.suppress(OSError), self.record_path(cell_id).open("rb") as file:
                version = _VERSION.search(file.read(100))
                if version and int(version[1]) < SCHEMA_VERSION:
                    earlier.append(cell_id)
        return earlier

    def keep_replaced(self, record: Record) -> None:
        """Keep a finished record under another name, before a newer one of its cell takes its place.

        Raises:
            RecordError: the disk is full or the folder cannot be written.
        """
        write_atomically(self.record_path(record.id).with_suffix(".json.replaced"), _layout(record))

    def write_record(self, record: Record) -> Path:
        """Write a record whole or not at all; an older one stays intact until the new one is safe on disk.

        Raises:
            RecordError: the disk is full or the folder cannot be written.
        """
        path = self.record_path(record.id)
        write_atomically(path, _layout(record))
        return path

    def read_record(self, cell_id: str) -> Record | None:
        """The record of a cell; None where there is none.

        Raises:
            RecordError: the file is damaged or of a newer schema.
        """
        path = self.record_path(cell_id)
        record = _read(path, Record, _AGAIN)
        if record is not None and record.id != cell_id:
            raise RecordError(f"{path}: holds the record of another cell ('{record.id}'); {_AGAIN}")
        return record

    def records(self, ids: Iterable[str] | None = None) -> tuple[dict[str, Record], list[RecordError]]:
        """Read many records.

        Args:
            ids: of the cells; None stands for every record in the store.

        Returns:
            Those that could be read, by id (absent ones are left out), and a problem for each that could not.
        """
        found: dict[str, Record] = {}
        problems: list[RecordError] = []
        if ids is None:
            ids = self.ids()
        for cell_id in dict.fromkeys(ids):
            try:
                record = self.read_record(cell_id)
            except RecordError as error:
                problems.append(RecordError(str(error), cell_id))
                continue
            if record is not None:
                found[cell_id] = record
        return found, problems

    def write_manifest(self, manifest: Manifest) -> Path:
        """Write a suite's manifest, whole or not at all.

        Raises:
            RecordError: the disk is full or the folder cannot be written.
        """
        path = self.manifest_path(manifest.suite)
        write_atomically(path, manifest.model_dump_json(indent=1) + "\n")
        return path

    def read_manifest(self, suite: str) -> Manifest:
        """The manifest of a suite.

        Raises:
            RecordError: there is none (nearest names are given), or the file is damaged or of a newer schema.
        """
        manifest = _read(self.manifest_path(suite), Manifest, "run the suite again to write it anew")
        if manifest is None:
            raise RecordError(self._no_suite(suite))
        return manifest

    def manifests(self) -> list[str]:
        """Names of the suites that have a manifest here, sorted."""
        return sorted(path.stem for path in (self.root / "suites").glob("*.json"))

    def _no_suite(self, suite: str) -> str:
        known = self.manifests()
        if not known:
            return f"suite '{suite}': nothing has been run in '{self.root}' yet; run 'adm run {suite}' first"
        near = difflib.get_close_matches(suite, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(repr(name) for name in near)}?" if near else "it has " + ", ".join(known)
        return f"suite '{suite}': '{self.root}' holds no run of it; {hint}"


def _layout(record: Record) -> str:
    """A record as JSON with one key per line, and one curve per line: small, and readable in a diff."""
    content = record.model_dump(mode="json")
    curves = [f"  {_compact(name)}: {_compact(values)}" for name, values in content["curves"].items()]
    lines = [f" {_compact(key)}: {_compact(value)}" for key, value in content.items() if key != "curves"]
    lines.append(' "curves": {' + ("\n" + ",\n".join(curves) + "\n }" if curves else "}"))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all: what was there stays until the new content is safe on disk.

    Args:
        path: the file; its folder is made where it is missing.
        content: bytes, or text that is written as UTF-8.

    Raises:
        RecordError: the disk is full or the folder cannot be written; the message says what to do.
    """
    try:
        with replacing(path) as new:
            new.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise RecordError(why_not_written(path, error)) from error


def _read(path: Path, model: type[_Model], remedy: str) -> _Model | None:
    try:
        raw = read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    version = _VERSION.search(raw)
    try:
        if version and int(version[1]) == SCHEMA_VERSION:
            return model.model_validate_json(raw)
        return _read_other_version(path, raw, model)
    except ValidationError as error:
        raise RecordError(f"{path}: is damaged: {_first_fault(error)}; {remedy}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: is damaged: not complete JSON ({error}); {remedy}") from error


def _read_protocol(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read(path))
        if isinstance(content, dict):
            return content
        problem = "it is no JSON object"
    except (OSError, ValueError) as error:
        problem = str(error)
    raise RecordError(f"{path}: cannot be read: {problem}; delete it, and the next run that needs it writes it anew")


def _read_other_version(path: Path, raw: bytes, model: type[_Model]) -> _Model:
    document = json.loads(raw)
    if not isinstance(document, dict):
        raise json.JSONDecodeError("not a JSON object", "", 0)
    return model.model_validate_json(json.dumps(migrate(document, str(path))))


def _first_fault(error: ValidationError) -> str:
    faults = error.errors(include_url=False)
    first = faults[0]
    place = ".".join(str(part) for part in first["loc"]) or "content"
    if first["type"] == "json_invalid":
        return f"not complete JSON ({first['ctx']['error']})"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{place}: {first['msg'].removeprefix('Value error, ')}{more}"
