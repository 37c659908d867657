"""Stores of earlier schemas brought up: their cells get the ids that suites give them now. Nothing is trained."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adm_core import registry
from adm_core.errors import AdmError
from adm_core.recipe import Protocol
from adm_files import replacing
from results.records.identity import digest
from results.records.schema import Cell, Manifest, ManifestRow, MethodPart, Record
from results.records.store import Store
from suites.spec.definition import load_protocol
from suites.spec.expand import teacher_cell
from suites.spec.method_settings import at_default
from suites.spec.names import protocol_names
from suites.spec.protocols import protocol_digest, resolved
from suites.work import locks
from suites.work.folder import WorkFolder

Protocols = Mapping[str, tuple[str, Protocol]]
"""Digest of the first rule to the protocol and its name."""


@dataclass
class Brought:
    """What became of a store.

    Attributes:
        ids: old id to new id, of the cells that were brought up.
        kept: id to why a cell keeps it; its record is still read, and no suite takes it for its own.
    """

    ids: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)


def bring_up(store: Store, files: Iterable[Path] = ()) -> Brought:
    """Give the cells of a store the ids of the present rule: records, suites, work folders and pictures.

    May be broken off at any time and called again. An old file goes once the new one is safe on disk.

    Args:
        store: of any version.
        files: protocols of the user's own, beside those that come with the benchmark and those in work folders.

    Raises:
        AdmError: a runner is at one of the cells, or the store cannot be written.
        RecordError: a suite is damaged, or the store cannot be written.
    """
    protocols, done = dict(_protocols(store, files)), Brought()
    manifests = [store.read_manifest(name) for name in store.manifests()]
    records, _ = store.records()
    old = [record for record in records.values() if record.cell.rule == 1]
    for cell in locks.held(store.root, (record.id for record in old)):
        raise _busy(store, cell)
    for record in old:
        lock = locks.acquire(store.root, record.id)
        if lock is None:
            raise _busy(store, record.id)
        try:
            _bring_record(store, record, protocols, done)
        finally:
            locks.forget(store.root, record.id, lock)
    for manifest in manifests:
        _bring_manifest(store, manifest, protocols, done)
    with contextlib.suppress(OSError):  # there are other locks, or none at all
        (store.root / locks.LOCKS).rmdir()
    return done


def by_present_rule(cell: Cell, protocols: Protocols) -> Cell:
    """The same cell with the id of the present rule.

    Raises:
        AdmError: its protocol or a method of it is not known here.
    """
    digests = [cell.protocol_digest] + ([cell.teacher_recipe.protocol_digest] if cell.teacher_recipe else [])
    for old in digests:
        if old not in protocols:
            raise AdmError(f"protocol '{cell.protocol}' with digest {old} is not known here; name its file")
    new = [protocol_digest(protocols[old][1]) for old in digests]
    recipe = cell.teacher_recipe and cell.teacher_recipe.model_copy(update={"protocol_digest": new[1]})
    parts = [
        MethodPart(
            name=part.name,
            version=part.version,
            settings=part.settings,
            at_default=at_default(registry.get(part.name), part.settings),
        )
        for part in sorted(cell.method, key=lambda part: part.name, reverse=True)
    ]
    update = {"rule": 2, "protocol_digest": new[0], "teacher_recipe": recipe, "method": tuple(parts)}
    return cell.model_copy(update=update)


def _protocols(store: Store, files: Iterable[Path]) -> Iterator[tuple[str, tuple[str, Protocol]]]:
    for name in (*protocol_names(), *(str(path.absolute()) for path in files)):
        told, protocol = load_protocol(name)
        yield _first_digest(protocol), (told, protocol)
    for cell in WorkFolder.ids(store.root):
        file = WorkFolder.of(store.root, cell).path / "cell.json"
        try:
            given = json.loads(file.read_bytes())
            protocol = Protocol.model_validate(given["protocol"])
            yield given["cell"]["protocol_digest"], (given["cell"]["protocol"], protocol)
        except (OSError, ValueError, KeyError, TypeError):  # without it, or not whole: another may tell
            continue


def _first_digest(protocol: Protocol) -> str:
    """What identified a protocol before schema 2: all values, also those at their defaults, as they were written."""
    later = {"compile", "kernels"}  # keys of recipes that there were not yet
    return digest(protocol.model_dump(mode="json", exclude={"title": True, "source": True, "recipe": later}))


def _busy(store: Store, cell: str) -> AdmError:
    return AdmError(f"{store.root}: a runner is at cell {cell}; let it end, then bring the store up")


def _bring_record(store: Store, record: Record, protocols: Protocols, done: Brought) -> None:
    """Write a cell's record under its new id; where that is not known, by the present schema under its own."""
    try:
        cell = by_present_rule(record.cell, protocols)
    except AdmError as error:
        done.kept[record.id] = str(error)
        store.write_record(record)
        return
    there = store.read_record(cell.id)
    teacher, alone = record.teacher, teacher_cell(cell)
    if teacher is not None and alone is not None:
        teacher = teacher.model_copy(update={"cell_id": alone.id})
    new = Record.model_validate(record.model_dump() | {"id": cell.id, "cell": cell.model_dump(), "teacher": teacher})
    if there is not None and there != new:
        done.kept[record.id] = f"cell {cell.id} has a record already, and both are one cell now"
        store.write_record(record)
        return
    name, protocol = protocols[record.cell.protocol_digest]
    store.write_protocol(cell.protocol_digest, resolved(name, protocol))
    _move(WorkFolder.of(store.root, record.id).path, WorkFolder.of(store.root, cell.id).path)
    _move(store.samples_path(record.id), store.samples_path(cell.id))
    _rename_assignment(store, cell)
    store.write_record(new)
    store.record_path(record.id).unlink()
    done.ids[record.id] = cell.id


def _bring_manifest(store: Store, manifest: Manifest, protocols: Protocols, done: Brought) -> None:
    rows = []
    for row in manifest.rows:
        try:
            if row.cell.rule == 1 and row.id not in done.kept:
                cell = by_present_rule(row.cell, protocols)
                row = ManifestRow(cell=cell, id=cell.id, label=row.label, block=row.block)
        except AdmError as error:
            done.kept[row.id] = str(error)
        rows.append(row)
    store.write_manifest(manifest.model_copy(update={"rows": rows}))


def _rename_assignment(store: Store, cell: Cell) -> None:
    """What the worker was given names the cell as well."""
    file = WorkFolder.of(store.root, cell.id).path / "cell.json"
    try:
        given = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return
    with replacing(file) as new:
        new.write_text(json.dumps(given | {"cell": cell.model_dump(mode="json")}, indent=1), encoding="utf-8")


def _move(old: Path, new: Path) -> None:
    if old.exists() and not new.exists():
        old.rename(new)
