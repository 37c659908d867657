"""The places of this machine on which workers can run: CPU cores, or GPUs by their UUID."""

from __future__ import annotations

from dataclasses import dataclass, field

from adm_core.cpu import cores
from adm_core.errors import AdmError
from suites.executors.gpus import gpus
from suites.worker.entry import THREADS


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


def expected(device: str, workers: int | None = None) -> int:
    """How many slots :func:`slots` would give, for plans: also where it would refuse."""
    return workers or (0 if device == "cpu" else len(gpus())) or cores()


def slots(device: str, workers: int | None = None) -> list[Slot]:
    """Where workers run.

    Args:
        device: ``cpu``; ``cuda``; ``auto`` takes GPUs where there are any.
        workers: how many; default: one per GPU, or one per core.

    Raises:
        AdmError: ``cuda`` where there is no GPU, or fewer than one worker.
    """
    if workers is not None and workers < 1:
        raise AdmError(f"--workers {workers}: at least 1")
    devices = [] if device == "cpu" else gpus()
    if device == "cuda" and not devices:
        raise AdmError("--device cuda: no GPU can be seen here (adm doctor shows what can); use --device cpu")
    if devices:
        count = workers or len(devices)
        threads = str(max(1, cores() // count))
        chosen = [i % len(devices) for i in range(count)]
        return [Slot(f"GPU {i}", {"CUDA_VISIBLE_DEVICES": devices[i].id, "OMP_NUM_THREADS": threads}) for i in chosen]
    one_thread = dict.fromkeys(THREADS, "1")
    return [Slot(f"CPU {i}", {"CUDA_VISIBLE_DEVICES": "", **one_thread}) for i in range(workers or cores())]
