"""The places of this machine on which workers can run: CPU cores, or GPUs by their UUID."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from adm_core.cpu import cores
from adm_core.errors import AdmError
from suites.executors.gpus import gpus
from suites.executors.memory import LEFT_FREE
from suites.worker.entry import THREADS

_ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
"""Where torch is told how to allocate memory: the old name, which hides the new one where it is set, and the new."""


@dataclass(frozen=True)
class Slot:
    """A place for one worker.

    Attributes:
        name: for people.
        environment: variables that tie a worker to the place.
    """

    name: str
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        """Whether a worker may see a GPU: wherever they are not hidden from it."""
        return self.environment.get("CUDA_VISIBLE_DEVICES") != ""


def expected(device: str, workers: int | None = None, per_gpu: int | None = None, gpus_per_cell: int = 1) -> int:
    """How many slots :func:`slots` would give, for plans: also where it would refuse."""
    places = 0 if device == "cpu" else len(gpus()) * (per_gpu or 1)
    return workers or max((places or cores()) // gpus_per_cell, 1)


def slots(device: str, workers: int | None = None, per_gpu: int | None = None, gpus_per_cell: int = 1) -> list[Slot]:
    """Where workers run.

    Several on one GPU may each take an equal share of its memory: one that needs more fails alone.

    Args:
        device: ``cpu``; ``cuda``; ``auto`` takes GPUs where there are any.
        workers: how many; default: ``per_gpu`` per GPU, or one per core that :func:`~adm_core.cpu.cores` allows; in
            either case divided by ``gpus_per_cell``.
        per_gpu: how many on each GPU; default: one.
        gpus_per_cell: how many GPUs each has, or cores where there are none.

    Raises:
        AdmError: a GPU is asked for where there is none, or more than there are; workers are counted twice, or fewer
            than one.
    """
    for option, count in {"--workers": workers, "--per-gpu": per_gpu, "--gpus-per-cell": gpus_per_cell}.items():
        if count is not None and count < 1:
            raise AdmError(f"{option} {count}: at least 1")
    if workers and per_gpu:
        raise AdmError(f"--workers {workers} and --per-gpu {per_gpu}: give one of them, both say how many run at once")
    if per_gpu and gpus_per_cell > 1:
        raise AdmError(f"--per-gpu {per_gpu} and --gpus-per-cell {gpus_per_cell}: give one of them")
    devices = [] if device == "cpu" else gpus()
    if device == "cuda" and not devices:
        raise AdmError("--device cuda: no GPU can be seen here (adm doctor shows what can); use --device cpu")
    if per_gpu and not devices:
        why = "cells are trained on the CPU" if device == "cpu" else "no GPU can be seen here"
        raise AdmError(f"--per-gpu {per_gpu}: {why}; use --workers, or another --device")
    there = len(devices) or cores()
    if gpus_per_cell > 1 and (wanted := gpus_per_cell * (workers or 1)) > there:
        what = "GPUs" if devices else "CPU cores"
        raise AdmError(f"--gpus-per-cell {gpus_per_cell}: {wanted} {what} are wanted, and there are {there} here")
    if devices:
        sets = [devices[i : i + gpus_per_cell] for i in range(0, there - gpus_per_cell + 1, gpus_per_cell)]
        return _on_gpus([",".join(gpu.id for gpu in each) for each in sets], workers or len(sets) * (per_gpu or 1))
    one_thread = dict.fromkeys(THREADS, "1")
    count = expected("cpu", workers, gpus_per_cell=gpus_per_cell)
    return [Slot(f"CPU {i}", {"CUDA_VISIBLE_DEVICES": "", **one_thread}) for i in range(count)]


def _on_gpus(devices: Sequence[str], count: int) -> list[Slot]:
    """Slots that take turns in the GPUs, or in sets of GPUs, and share the cores."""
    each = devices[0].count(",") + 1
    common = {"OMP_NUM_THREADS": str(max(1, cores() // (count * each)))}
    together = math.ceil(count / len(devices))
    if together > 1:
        share = f"per_process_memory_fraction:{(1 - LEFT_FREE) / together:.4f}"
        name = next((known for known in _ALLOCATOR if known in os.environ), _ALLOCATOR[-1])
        common[name] = ",".join(filter(None, (os.environ.get(name), share)))
    chosen = [i % len(devices) for i in range(count)]
    return [Slot(f"GPU {i}", {"CUDA_VISIBLE_DEVICES": devices[i], **common}) for i in chosen]
