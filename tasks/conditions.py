"""What can be made of a task's benchmarks: label noise and shifts, checked before training. Loads no torch."""

from __future__ import annotations

from adm_core.condition import NOISES, Condition
from adm_core.errors import AdmError, unknown
from tasks import catalogue
from tasks.datasets.severities import SEVERITIES


def check_condition(task: str, condition: Condition, in_memory: bool, where: str) -> None:
    """Stop at a condition that a task or a benchmark cannot be put under.

    Args:
        task: e.g. ``classification``.
        condition: label noise, a shift or both.
        in_memory: whether the benchmark's images lie in memory rather than in files.
        where: file and block, for messages.

    Raises:
        AdmError: an unknown kind or corruption, with the nearest names, or a task that takes no such condition.
    """
    taken, noise, shift = catalogue.offer(task).conditions, condition.noise, condition.shift
    for kind, given in (("noise", noise), ("shift", shift)):
        if given is not None and kind not in taken:
            told = f"only {' and '.join(taken)}" if taken else "nor any other"
            raise AdmError(f"{where}.{kind}: task '{task}' takes no condition '{kind}', {told}")
    if noise is not None and noise.kind not in NOISES:
        raise unknown("kind of noise", noise.kind, NOISES, where=f"{where}.noise.kind")
    if noise is not None and noise.kind == "instance" and not in_memory:
        raise AdmError(
            f"{where}.noise.kind: instance noise reads the pictures, and this benchmark's lie in files; take symmetric "
            "or asymmetric noise"
        )
    for name in shift.corruptions if shift else ():
        if name not in SEVERITIES:
            raise unknown("corruption", name, SEVERITIES, where=f"{where}.shift.corruptions")
