"""What it costs to train the methods of a table one by one, and in lockstep.

    OMP_NUM_THREADS=1 pytest tests/benchmarks/test_lockstep.py --benchmark-only -s

On one torch thread, batch 64, data included; the best epoch but the first, in time of this process, so that other
work on the machine counts for neither. What is saved is all batches and teachers' forward passes but one: more where
the teacher is large and the student small.
"""

import itertools
import time
from collections.abc import Callable

import pytest
import torch

from adm_core import freed_memory, registry
from adm_core.distiller import Distiller
from adm_core.lockstep import Lockstep
from adm_core.method import Facts
from adm_core.recipe import Recipe
from adm_core.train import Trainer
from tasks.classification.batches import InMemoryBatches
from tests.benchmarks.test_data_path import MEAN, STD
from tests.benchmarks.test_step import CLASSES, SGD, FixedTask, build, cifar_like

METHODS = ("none", "kd", "fitnet", "at", "dkd", "dist", "adm", "kd+adm", "dkd+adm", "crd", "simkd", "ofd")
STEPS, BATCH = 1, 64
RECIPE = Recipe(epochs=3, batch_size=BATCH, optimizer=SGD)


def trainers(pair: tuple[str, str], ended: Callable[[], None]) -> dict[str, Trainer]:
    """A trainer of each method, all with one teacher; ``ended`` is called after each epoch."""
    images, teacher, made = cifar_like(STEPS * BATCH), build(pair[0]), {}
    loader = InMemoryBatches(images, BATCH, 0, "cpu", mean=MEAN, std=STD, crop_padding=4, flip=True)
    task = FixedTask(loader.batches, loader.steps_per_epoch)
    facts = Facts(len(images), CLASSES, torch.as_tensor(images.labels), 3 * STEPS, BATCH)
    example = (torch.zeros(2, 3, 32, 32).contiguous(memory_format=torch.channels_last),)
    for name in METHODS:
        networks = {"student": build(pair[1]), "teacher": teacher}
        given = (networks, registry.create(name), "offline", task.task_loss, "class_logits", example, facts)
        made[name] = Trainer(Distiller(*given), task, RECIPE, seed=0, report=lambda _: ended())
    return made


def best_epoch(stamps: list[float]) -> float:
    """Seconds of the fastest epoch but the first, which warms up, from the ends of all."""
    return min(later - earlier for earlier, later in itertools.pairwise(stamps))


def one_by_one(pair: tuple[str, str]) -> float:
    """Seconds of an epoch of each, all together."""
    stamps: list[float] = []
    total = 0.0
    for trainer in trainers(pair, lambda: stamps.append(time.process_time())).values():
        stamps.clear()
        trainer.run()
        total += best_epoch(stamps)
    return total


def in_lockstep(pair: tuple[str, str]) -> float:
    """Seconds of an epoch of all."""
    stamps: list[float] = []
    Lockstep(trainers(pair, lambda: stamps.append(time.process_time())), refuse).run()
    return best_epoch(stamps[len(METHODS) - 1 :: len(METHODS)])


def refuse(name: str, error: Exception) -> None:
    raise AssertionError(f"'{name}' failed") from error


@pytest.mark.parametrize("pair", [("resnet32x4", "resnet8x4"), ("resnet56", "resnet20")], ids=" > ".join)
def test_lockstep_against_one_by_one(benchmark, tell, pair: tuple[str, str]) -> None:
    torch.set_num_threads(1)
    freed_memory.keep()  # as every worker does
    alone = one_by_one(pair)
    lockstep = benchmark.pedantic(lambda: in_lockstep(pair), rounds=1)
    each = 1000 / STEPS / len(METHODS)
    tell(
        f"{len(METHODS)} offline methods of {' > '.join(pair)} in lockstep against one by one, batch {BATCH}",
        f"{lockstep / alone:.2f} × the time (a step of each {each * alone:.0f} → {each * lockstep:.0f} ms)",
        headline=True, alone_s=alone, lockstep_s=lockstep,
    )  # fmt: skip
