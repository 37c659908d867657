"""Cells, records and suites that were never trained, made by hand for tests."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from results.records.schema import (
    Cell,
    Cost,
    Manifest,
    ManifestRow,
    MethodPart,
    Primary,
    Record,
    TeacherIdentity,
    TeacherRecipe,
)
from results.records.store import Store

DIGEST = "0123456789abcdef"
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
"""A picture of one black pixel."""
TOP1 = Primary(metric="top1", higher_is_better=True, unit="%", selection="last")
ENVIRONMENT = {"python": "3.12.4", "torch": "2.12.0", "device": "Test CPU", "threads": 1, "git_dirty": False}


def make_cell(
    method: str = "none", seed: int = 0, regime: str = "offline", parts: tuple[MethodPart, ...] = (), **changes: Any
) -> Cell:
    """A cell of resnet20 and resnet8 on digit-scenes; ``parts`` replace the method, ``changes`` other fields."""
    recipe = TeacherRecipe(protocol="quick", protocol_digest=DIGEST, seed=0)
    fields: dict[str, Any] = {
        "task": "classification",
        "benchmark": "digit-scenes@1",
        "protocol": "quick",
        "protocol_digest": DIGEST,
        "regime": regime,
        "student": "resnet8",
        "teacher": None if regime == "alone" else "resnet20",
        "teacher_recipe": recipe if regime == "offline" else None,
        "method": parts or tuple(MethodPart(name=n, version=1, settings={"weight": 1.0}) for n in method.split("+")),
        "seed": seed,
    }
    return Cell.model_validate(fields | changes)


def make_record(cell: Cell, score: float = 80.0, teacher: float | None = 90.0, **changes: Any) -> Record:
    """An ok record of a cell; ``changes`` replace fields."""
    networks = {"student": {"top1": score, "nll": 2 - score / 100}}
    if teacher is not None and cell.regime != "alone":
        networks["teacher"] = {"top1": teacher}
    fields: dict[str, Any] = {
        "id": cell.id,
        "cell": cell,
        "status": "ok",
        "scores": networks,
        "primary": TOP1,
        "cost": Cost(train_s=10.0 + len(cell.method_name), step_ms=5.0 * (1 + len(cell.method)), peak_memory_mb=512.0,
                     parameters={"student": 78_042.0, "teacher": 272_474.0}, flops={"student": 12.7e6}),
        "environment": ENVIRONMENT,
    }  # fmt: skip
    if cell.regime == "offline":
        origin = {"checkpoint": "teacher.pth"} if cell.checkpoint else {"cell_id": "f" * 16}
        fields["teacher"] = TeacherIdentity(**origin, digest=cell.checkpoint or "ab" * 32, score=teacher)
    return Record.model_validate(fields | changes)


def failed(cell: Cell, status: str = "diverged", reason: str = "loss is not finite") -> Record:
    """A record of a cell that is not ok."""
    return Record.model_validate({"id": cell.id, "cell": cell, "status": status, "reason": reason})


def make_row(cell: Cell, label: str = "", block: str = "Block", controls: Sequence[str] = ()) -> ManifestRow:
    """A cell's place in a table; labelled by its method unless told otherwise."""
    return ManifestRow(cell=cell, id=cell.id, label=label or cell.method_name, block=block, controls=list(controls))


def make_manifest(cells: Sequence[Cell], suite: str = "tiny", **changes: Any) -> Manifest:
    """A suite of one block."""
    return Manifest.model_validate({"suite": suite, "title": "Tiny", "rows": [make_row(c) for c in cells]} | changes)


def by_id(*records: Record) -> dict[str, Record]:
    """Records as ``collect`` takes them."""
    return {record.id: record for record in records}


def one_block(
    students: Mapping[str, Sequence[float | None]],
    regime: str = "offline",
    teachers: Mapping[str, Sequence[float]] | None = None,
) -> tuple[Manifest, dict[str, Record]]:
    """A suite of one block: method to a score per seed; None is a seed that diverged."""
    cells, records = [], []
    for method, values in students.items():
        for seed, value in enumerate(values):
            cell = make_cell(method, seed, regime)
            teacher = teachers[method][seed] if teachers else 90.0
            cells.append(cell)
            records.append(failed(cell) if value is None else make_record(cell, value, teacher))
    return make_manifest(cells), by_id(*records)


def fid_suite(scores: Mapping[str, float], frozen: float, **changes: Any) -> tuple[list[Cell], list[Record]]:
    """Cells and records of generators, which are better when their score is lower; ``frozen`` is their teacher's."""
    fid = Primary(metric="fid", higher_is_better=False, unit="", selection="last")
    cells = [make_cell(method, **({"task": "diffusion"} | changes)) for method in scores]
    records = [
        make_record(cell, teacher=frozen, primary=fid, scores={"student": {"fid": value}})
        for cell, value in zip(cells, scores.values(), strict=True)
    ]
    return cells, records


def write(root: Path, manifest: Manifest, records: Mapping[str, Record]) -> Store:
    """A store that holds a suite."""
    store = Store(root)
    store.write_manifest(manifest)
    for record in records.values():
        store.write_record(record)
    return store
