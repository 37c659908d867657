"""A block's condition: checked when the suite is read, and handed to the task that opens its cells. Loads no torch."""

from __future__ import annotations

from adm_core import condition as core
from results.records.schema import BenchmarkIdentity, Cell, Condition
from suites.spec.definition import Block
from tasks import catalogue, conditions


def check(block: Block, own: BenchmarkIdentity | None, where: str) -> core.Condition | None:
    """Stop at a condition that the block's task or benchmark cannot be put under.

    Args:
        block: of a suite.
        own: what identifies its benchmark, where that is the suite's own.
        where: file and block, for messages.

    Returns:
        The condition; None where there is none.

    Raises:
        AdmError: see :func:`tasks.conditions.check_condition`.
    """
    if block.condition is None:
        return None
    condition = _of(block.condition)
    in_memory = own is None and catalogue.benchmarks(block.task)[block.benchmark].in_memory
    conditions.check_condition(block.task, condition, in_memory, f"{where}, condition")
    return condition


def condition_of(cell: Cell) -> core.Condition | None:
    """What a task needs to put a cell's benchmark under its condition; None where there is none."""
    return _of(cell.condition) if cell.condition else None


def _of(given: Condition) -> core.Condition:
    noise = core.LabelNoise(**given.noise.model_dump()) if given.noise else None
    shift = core.Shift(**given.shift.model_dump()) if given.shift else None
    return core.Condition(noise, shift)
