"""Several stores made one: all is read and checked before anything is written. Loads no torch, trains nothing."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adm_core.errors import AdmError
from adm_core.recipe import Protocol
from adm_files import replacing, why_not_written
from results.records.schema import Manifest, Record
from results.records.store import Store
from suites.plan.plan import DONE
from suites.spec.networks import sha256
from suites.spec.protocols import protocol_digest
from suites.work import locks
from suites.work.folder import WorkFolder

_NOTHING = "nothing was merged"


@dataclass(frozen=True)
class Merged:
    """What became of a merge.

    Attributes:
        taken: name of a store to how many records were taken from it, in the order of the stores.
        known: how many cells of these stores had the same result there already.
        suites: name of a suite to how many rows it has now.
        missing: what cells need and no store has, a sentence for each.
    """

    taken: Mapping[str, int]
    known: int
    suites: Mapping[str, int]
    missing: tuple[str, ...]


@dataclass
class _United:
    """What all stores hold together, each thing once.

    Attributes:
        records: cell id to its record.
        news: cell id to the name of the store that its record is taken from.
        files: file to be written to the one it is a copy of: weights and pictures.
        protocols: digest to the protocol.
        manifests: by suite.
        missing: as in :class:`Merged`.
    """

    records: dict[str, Record] = field(default_factory=dict)
    news: dict[str, str] = field(default_factory=dict)
    files: dict[Path, Path] = field(default_factory=dict)
    protocols: dict[str, dict[str, Any]] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def merge(sources: Mapping[str, Store], into: Store) -> Merged:
    """Take records, suites, protocols, pictures and teachers' weights of several stores into one.

    A cell that is done in one store and not in another counts as done; of equal results the first is taken. May be
    broken off at any time and called again: every file is written whole or not at all, and what is there stays.

    Args:
        sources: name to store; the name is kept in the records that are taken from it.
        into: the store that is added to.

    Raises:
        RecordError: a record, suite or protocol cannot be read or written.
        AdmError: two stores hold different results of one cell or different suites of one name, a digest is not that
            of what it names, or a runner is at one of the cells. Nothing was written then.
    """
    for store in (into, *sources.values()):
        if store.of_earlier_schemas():
            raise AdmError(f"{store.root}: its cells have ids of an earlier version: adm migrate --store {store.root}")
    united = _United()
    _unite_records(united, sources, into)
    _unite_manifests(united, [into, *sources.values()])
    _unite_protocols(united, [into, *sources.values()])
    _unite_files(united, list(sources.values()), into)
    for cell in sorted(locks.held(into.root, united.news)):
        raise AdmError(f"{into.root}: a runner is at cell {cell}; {_NOTHING}: let it end, then merge")
    _write(united, into)
    counts = Counter(united.news.values())
    return Merged(
        taken={name: counts[name] for name in sources},
        known=len(united.records) - len(united.news),
        suites={name: len(manifest.rows) for name, manifest in united.manifests.items()},
        missing=tuple(united.missing),
    )


def _unite_records(united: _United, sources: Mapping[str, Store], into: Store) -> None:
    """One record for each cell of the sources."""
    where: dict[str, Store] = {}
    conflicts: list[str] = []
    wanted = dict.fromkeys(cell for store in sources.values() for cell in store.ids())
    for name, store in (("", into), *sources.items()):
        for cell, record in _read(store, wanted if store is into else store.ids()).items():
            first = united.records.get(cell)
            if first is None or (record.status in DONE and first.status not in DONE):
                united.records[cell], where[cell] = record, store
                if name:
                    united.news[cell] = name
            elif record.status in DONE and _result(record) != _result(first):
                sides = f"{_told(first, where[cell])} and {_told(record, store)}"
                conflicts.append(f"cell {cell} ({_named(record)}) has two results: {sides}")
    if conflicts:
        more = f". {len(conflicts) - 1} more cells have two results" if len(conflicts) > 1 else ""
        told = "remove the record that is not to count, or leave out its store"
        raise AdmError(f"{conflicts[0]}; {_NOTHING}: {told}{more}")


def _read(store: Store, cells: Iterable[str]) -> dict[str, Record]:
    records, faults = store.records(cells)
    if faults:
        more = f" (and {len(faults) - 1} more records of it)" if len(faults) > 1 else ""
        raise AdmError(f"{faults[0]}{more}; {_NOTHING}")
    return records


def _result(record: Record) -> tuple[object, ...]:
    """What must agree of two records of one cell; times and machines may differ."""
    return record.status, record.scores, record.primary


def _told(record: Record, store: Store) -> str:
    """A record's score, or how it ended, and its file."""
    score, metric = record.score("student"), record.primary.metric if record.primary else ""
    return f"{record.status if score is None else f'{metric} {score:g}'} in {store.record_path(record.id)}"


def _named(record: Record) -> str:
    return f"{record.cell.method_name} on {record.cell.pair}, seed {record.cell.seed}"


def _unite_manifests(united: _United, stores: Sequence[Store]) -> None:
    """The rows of suites of one name together, each once."""
    first_of: dict[str, Store] = {}
    for store in stores:
        for name in store.manifests():
            manifest = store.read_manifest(name)
            first = united.manifests.setdefault(name, manifest)
            _check_suite(first, manifest, first_of.setdefault(name, store), store)
            there = {(row.block, row.label, row.id) for row in first.rows}
            news = [row for row in manifest.rows if (row.block, row.label, row.id) not in there]
            if news:
                united.manifests[name] = first.model_copy(update={"rows": [*first.rows, *news]})


def _check_suite(first: Manifest, second: Manifest, *stores: Store) -> None:
    """Stop at two suites of one name, or at one of two baselines."""
    amiss = {"baseline": first.baseline != second.baseline, "title": first.is_another(second)}
    for key, two in amiss.items():
        if two:
            sides = [getattr(manifest, key) for manifest in (first, second)]
            paths = [store.manifest_path(first.suite) for store in stores]
            told = " and ".join(f"'{side}' in {path}" for side, path in zip(sides, paths, strict=True))
            raise AdmError(
                f"suite '{first.suite}' is two suites: its {key} is {told}; {_NOTHING}: rename one of the files"
            )


def _unite_protocols(united: _United, stores: Sequence[Store]) -> None:
    """The protocols of all records and of their teachers, each held against its digest."""
    cells = {
        (record.cell.protocol_digest, record.cell.teacher_recipe): record.cell for record in united.records.values()
    }
    names = {cell.protocol_digest: cell.protocol for cell in cells.values()}
    names |= {recipe.protocol_digest: recipe.protocol for _, recipe in cells if recipe is not None}
    for store in stores:
        for digest, protocol in store.protocols(cells.values()).items():
            _check_protocol(store.protocol_path(digest), digest, protocol)
            united.protocols.setdefault(digest, protocol)
    for digest in sorted(names.keys() - united.protocols.keys()):
        united.missing.append(f"protocol '{names[digest]}' ({digest}), so that pages cannot tell its recipe")


def _check_protocol(path: Path, digest: str, protocol: Mapping[str, Any]) -> None:
    try:
        known = Protocol.model_validate({key: value for key, value in protocol.items() if key != "name"})
    except ValidationError as error:
        raise AdmError(f"{path}: is no protocol that this version knows: {error.errors()[0]['msg']}") from error
    if protocol_digest(known) != digest:
        raise AdmError(f"{path}: is not the protocol of that digest, which is {protocol_digest(known)}; {_NOTHING}")


def _unite_files(united: _United, sources: Sequence[Store], into: Store) -> None:
    """Pictures, and the weights of teachers, these held against their records."""
    lacking = []
    for cell, record in united.records.items():
        pictures = [store.samples_path(cell) for store in sources if store.samples_path(cell).is_file()]
        if pictures and not into.samples_path(cell).exists():
            united.files[into.samples_path(cell)] = pictures[0]
        weights = WorkFolder.of(into.root, cell).weights
        if record.cell.regime == "alone" and record.status == "ok" and not weights.exists():
            found = _weights(record, sources)
            if found is not None:
                united.files[weights] = found
            else:
                lacking.append(f"{record.cell.student} ({cell})")
    if lacking:
        told = "which are trained anew where a student of theirs is still to do"
        united.missing.append(f"weights of the teachers {', '.join(lacking)}, {told}")


def _weights(record: Record, sources: Sequence[Store]) -> Path | None:
    """The file with a teacher's weights; None where there is none, or where its record does not say what it holds."""
    wanted = record.weights.get("student")
    for path in (WorkFolder.of(store.root, record.id).weights for store in sources):
        if wanted is None or not path.is_file():
            continue
        digest = sha256(path)
        if digest != wanted:
            told = f"their SHA-256 is {digest}, in its record {wanted}"
            raise AdmError(f"{path}: are not the weights of cell {record.id}: {told}; {_NOTHING}: delete the file")
        return path
    return None


def _write(united: _United, into: Store) -> None:
    """What records need comes before them, and suites last: whoever reads meanwhile finds nothing that is not whole."""
    for digest, protocol in united.protocols.items():
        into.write_protocol(digest, protocol)
    for new, old in united.files.items():
        try:
            with replacing(new) as copy:
                shutil.copyfile(old, copy)
        except OSError as error:
            raise AdmError(why_not_written(new, error)) from error
    for cell, name in united.news.items():
        record = united.records[cell]
        into.write_record(record.model_copy(update={"origin": record.origin or name}))
    for name, manifest in united.manifests.items():
        if name not in into.manifests() or into.read_manifest(name) != manifest:
            into.write_manifest(manifest)
