"""What a step of every offline method costs, relative to `none`'s step and the teacher's forward pass.

    OMP_NUM_THREADS=1 pytest tests/benchmarks/test_step_costs.py --benchmark-only -s && python docs/generate.py

resnet14w16s2 > resnet8w8s2 on 28x28, batch 64, on one torch thread, in CPU time, data included. Each method takes turns
with a method that reads the teacher and adds no term, and the best epoch of each counts; phases are over by then, and
what is done once before training is left out. Writes ``docs/step-costs.json``, the column of ``docs/methods.md``.
"""

import itertools
import json
import math
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import torch

from adm_core import cpu, freed_memory, registry
from adm_core.distiller import Distiller
from adm_core.errors import Unsupported
from adm_core.method import Facts, Losses, Method, MethodCard
from adm_core.recipe import Recipe
from adm_core.train import Trainer
from tasks.classification.batches import InMemoryBatches
from tasks.datasets.images import ImageSet
from tests.benchmarks.test_step import BATCH, CLASSES, SGD, FixedTask, build, cifar_like

COSTS = Path(__file__).resolve().parents[2] / "docs" / "step-costs.json"
PAIR = ("resnet14w16s2", "resnet8w8s2")
STEPS, EPOCHS, ROUNDS, SIDE = 1, 4, 3, 28
RECIPE = Recipe(epochs=EPOCHS, batch_size=BATCH, optimizer=SGD)


class Onlooker(Method):
    """Reads the teacher and adds nothing: `none` with the teacher's forward pass."""

    card = MethodCard("onlooker", "Onlooker", "", 2026, frozenset({"offline"}), "baseline")

    def losses(self, student, teacher, step):
        return Losses()


def trainer(method: Method, images: ImageSet, stamps: list[float]) -> Trainer:
    """A trainer of the pair; notes the CPU time at the end of each epoch."""
    needs, layout = method.needs, torch.channels_last
    loader = InMemoryBatches(
        images, BATCH, 0, "cpu", mean=(0.5,) * 3, std=(0.25,) * 3, crop_padding=4, flip=True,
        views=1 + (needs.views == "own"), extra_view=bool(needs.extra_view), per_class=needs.per_class,
    )  # fmt: skip
    task = FixedTask(loader.batches, loader.steps_per_epoch)
    facts = Facts(len(images), CLASSES, torch.as_tensor(images.labels), EPOCHS * STEPS, BATCH)
    networks = dict(zip(("teacher", "student"), map(build, PAIR), strict=True))
    example = (torch.zeros(2, 3, SIDE, SIDE).contiguous(memory_format=layout),)
    distiller = Distiller(networks, method, "offline", task.task_loss, task.kind, example, facts)
    if needs.teacher_pass:
        method.know(distiller.prepare(loader.batches(0)))
    return Trainer(distiller, task, RECIPE, seed=0, report=lambda _: stamps.append(time.process_time()))


def step_ms(method: Method, images: ImageSet) -> float:
    """Milliseconds of a step in the fastest epoch of the second half."""
    stamps: list[float] = []
    trainer(method, images, stamps).run()
    return 1000 / STEPS * min(later - earlier for earlier, later in itertools.pairwise(stamps[EPOCHS // 2 - 1 :]))


def relative_costs(images: ImageSet) -> Iterator[tuple[str, float]]:
    """Every offline method that runs on the pair, and its step over the onlooker's."""
    step_ms(Onlooker(), images)  # warms up
    for name in registry.names():
        if "offline" not in registry.get(name).card.regimes:
            continue
        best = {"own": math.inf, "base": math.inf}
        try:
            for _ in range(ROUNDS):
                best["base"] = min(best["base"], step_ms(Onlooker(), images))
                best["own"] = min(best["own"], step_ms(registry.create(name), images))
        except Unsupported:
            continue
        yield name, round(best["own"] / best["base"], 2)


def test_what_a_step_of_each_method_costs(benchmark, tell):
    torch.set_num_threads(1)
    freed_memory.keep()  # as every worker does
    whole = cifar_like(STEPS * BATCH)
    images = ImageSet(whole.images[:, :, :SIDE, :SIDE].copy(), whole.labels, whole.classes)
    of = benchmark.pedantic(lambda: dict(relative_costs(images)), rounds=1)
    where = f"{cpu.told().get('model name', 'an unknown processor')}, torch {torch.__version__.partition('+')[0]}"
    told = {"where": f"{where}, {datetime.now(UTC):%Y-%m-%d}", "of": of}
    COSTS.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    dearest = max(of, key=of.__getitem__)
    tell(
        f"a step of each of {len(of)} offline methods of {' > '.join(PAIR)}, batch {BATCH}, over that of `none` and "
        "the teacher's forward ([each](methods.md#where-they-run))",
        f"{statistics.median(of.values()):.2f} × in the median, {of[dearest]:.2f} × for `{dearest}`",
        **{name.replace("-", "_"): ratio for name, ratio in of.items()},
    )  # fmt: skip
