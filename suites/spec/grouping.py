"""Which cells one worker may train together, on one stream of batches and one frozen teacher. Loads no torch."""

from __future__ import annotations

from results.records.schema import Cell
from suites.spec.expand import PlannedCell, teacher_cell
from suites.spec.method_settings import method_of

GroupKey = tuple[str | int | bool | None, ...]
"""What the members of a group have in common."""


def group_key(planned: PlannedCell) -> GroupKey | None:
    """What cells must have equal to be trained together; None: this one trains alone, :func:`why_alone` says why.

    Raises:
        AdmError: no such method.
    """
    return _key(planned.cell, planned.teacher.id if planned.teacher else None)


def why_alone(planned: PlannedCell) -> str:
    """Why a cell trains alone, in a few words; empty where it can be one of a group."""
    return _reason(planned.cell)


def key_of(cell: Cell) -> GroupKey | None:
    """As :func:`group_key`, of the cell alone.

    Equal are the frozen teacher, what batches are made of (benchmark, condition, protocol and seed), and how the
    method wants them: views of their own, a stronger view, pictures without labels, balanced classes. Students and
    methods may differ.

    Raises:
        AdmError: no such method.
    """
    trained = teacher_cell(cell)
    return _key(cell, trained.id if trained else None)


def _key(cell: Cell, trained: str | None) -> GroupKey | None:
    """As :func:`key_of`; ``trained`` is the id of the cell that trains its teacher."""
    if _reason(cell):
        return None
    needs, own = method_of(cell).needs, cell.networks.get(cell.teacher or "")
    return (
        cell.task,
        cell.benchmark,
        cell.own_benchmark.model_dump_json() if cell.own_benchmark else None,
        cell.condition.model_dump_json() if cell.condition else None,
        cell.protocol_digest,
        cell.seed,
        cell.teacher,
        trained or cell.checkpoint,
        own.model_dump_json() if own else None,
        needs.views == "own",
        needs.extra_view,
        needs.unlabelled,
        needs.per_class,
    )


def _reason(cell: Cell) -> str:
    if cell.regime != "offline":
        return f"regime {cell.regime}: there is no frozen teacher to share"
    if cell.stretch is not None:
        return "it trains longer than its protocol says"
    return ""
