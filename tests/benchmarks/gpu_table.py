"""What a KD step with data costs on a GPU in each way of running it, against a plain loop's, as JSON.

    python -m tests.benchmarks.gpu_table --out gpu.json

Needs no network and no data set: images are noise in CIFAR-100's shape. Every side runs in a process of its own, or
in several that begin together, warms up for an epoch and is timed alone over the next ones; the best round counts. A
milliseconds' figure is wall time by steps of all cells, so that 8 cells at once that take 16 ms a step have 2.
``--device cpu --steps 2`` tries it without a GPU; compiling takes minutes there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from adm_core import freed_memory, registry
from adm_core.distiller import Distiller
from adm_core.lockstep import Lockstep
from adm_core.method import Facts
from adm_core.recipe import Recipe
from adm_core.train import Trainer
from suites.worker.opening import set_numerics
from tasks.classification.batches import InMemoryBatches
from tests.benchmarks.test_data_path import MEAN, STD
from tests.benchmarks.test_lockstep import METHODS, refuse
from tests.benchmarks.test_step import BATCH, CLASSES, SGD, FixedTask, build, cifar_like, plain_loop

PAIRS = ("resnet56:resnet20", "resnet32x4:resnet8x4")
RECIPES: dict[str, dict[str, Any]] = {
    "eager": {},
    "tf32": {"precision": "tf32"},
    "bf16": {"precision": "bf16"},
    "compile": {"compile": True},
    "reduce-overhead": {"compile": "reduce-overhead"},
    "bf16 compile": {"precision": "bf16", "compile": True},
    "bf16 reduce-overhead": {"precision": "bf16", "compile": "reduce-overhead"},
}
"""What recipes of one cell alone say beyond fp32 and native kernels."""
SIDES = ("plain", *RECIPES, "lockstep", "bf16 lockstep", "per-gpu", "bf16 per-gpu")


def trainers(pair: Sequence[str], methods: Sequence[str], device: str, steps: int, **recipe: Any) -> dict[str, Trainer]:
    """One for an epoch of each method, on one teacher and one stream of batches."""
    images, teacher = cifar_like(steps * BATCH), build(pair[0])
    teacher.module.to(device)
    loader = InMemoryBatches(images, BATCH, 0, device, mean=MEAN, std=STD, crop_padding=4, flip=True)
    task, made = FixedTask(loader.batches, loader.steps_per_epoch), {}
    facts = Facts(len(images), CLASSES, torch.as_tensor(images.labels), steps, BATCH)
    example = (torch.zeros(2, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last),)
    chosen = Recipe(epochs=1, batch_size=BATCH, optimizer=SGD, kernels="native", **recipe)
    set_numerics(torch.device(device), chosen.precision, chosen.kernels)
    for name in methods:
        student = build(pair[1])
        student.module.to(device)
        networks = {"student": student, "teacher": teacher}
        given = (networks, registry.create(name), "offline", task.task_loss, "class_logits", example, facts)
        made[name] = Trainer(Distiller(*given), task, chosen, seed=0)
    return made


def work(side: str, pair: Sequence[str], device: str, steps: int) -> Callable[[], Callable[[], Any]]:
    """What makes an epoch of a side, which is then to be timed."""
    if side == "plain":
        epoch = plain_loop((pair[0], pair[1]), cifar_like(steps * BATCH), device)
        return lambda: epoch
    if side.endswith("lockstep"):
        precision = "bf16" if side.startswith("bf16") else "fp32"
        return lambda: Lockstep(trainers(pair, METHODS, device, steps, precision=precision), refuse).run
    recipe = RECIPES["bf16" if side.startswith("bf16 per-gpu") else side.replace("per-gpu", "eager")]
    return lambda: trainers(pair, ["kd"], device, steps, **recipe)["kd"].run


def serve(side: str, pair: Sequence[str], device: str, steps: int) -> None:
    """One process of a side: says when it has warmed up, then takes an epoch for every line that it is sent."""
    torch.set_num_threads(1)
    freed_memory.keep()
    make = work(side, pair, device, steps)
    make()()
    epoch = make()
    print("ready", flush=True)
    for _ in sys.stdin:
        epoch()
        if device != "cpu":
            torch.cuda.synchronize()
        print("done", flush=True)
        epoch = make()
        print("ready", flush=True)


class Side:
    """A row of the table: processes that warm up as soon as it is made, and wait to be measured.

    Args:
        side: one of :data:`SIDES`.
        pair: teacher and student, with a colon between them.
        device: cuda, cuda:N or cpu.
        steps: in an epoch.
        per_gpu: cells at once in the sides of that name.
    """

    def __init__(self, side: str, pair: str, device: str, steps: int, per_gpu: int) -> None:
        processes = per_gpu if side.endswith("per-gpu") else 1
        self.cells = processes * (len(METHODS) if side.endswith("lockstep") else 1)
        self.row, self.steps = {"pair": pair, "side": side, "cells": self.cells}, steps
        command = [sys.executable, "-m", "tests.benchmarks.gpu_table", "--device", device, "--steps", str(steps)]
        command += ["--pairs", pair, "--serve", side]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.began = time.perf_counter()
        self.started = [subprocess.Popen(command, text=True, **pipes) for _ in range(processes)]  # type: ignore[call-overload]

    def warmed_up(self) -> None:
        """Wait until it is ready; if it fails, the row says why."""
        try:
            self._expect("ready")
            self.row["ready_s"] = round(time.perf_counter() - self.began, 1)
        except RuntimeError as error:
            self.row["failed"] = str(error)

    def measure(self, rounds: int) -> dict[str, Any]:
        """The row with the best round's milliseconds, or with why there are none; ends the processes."""
        took = []
        try:
            while "failed" not in self.row and len(took) < rounds:
                began = time.perf_counter()
                for process in self.started:
                    process.stdin.write("\n")
                    process.stdin.flush()
                self._expect("done")
                took.append(time.perf_counter() - began)
                self._expect("ready")
        except RuntimeError as error:
            self.row["failed"] = str(error)
        else:
            if took:
                self.row["ms"] = round(1000 * min(took) / (self.steps * self.cells), 3)
        for process in self.started:
            process.stdin.close()
        for process in self.started:
            process.wait()
        return self.row

    def _expect(self, word: str) -> None:
        """Wait until all have said a word; one that has ended instead tells its last line."""
        for process in self.started:
            if process.stdout.readline().strip() != word:
                raise RuntimeError(process.stderr.read().strip().rpartition("\n")[2] or "ended without a word")


def table(
    pairs: Sequence[str], sides: Sequence[str], device: str, *, steps: int, rounds: int, per_gpu: int
) -> Iterator[dict[str, Any]]:
    """The table, once more after each row, with how many times as fast as its pair's plain loop each side is.

    The sides of a pair warm up together, compilers included, and are measured one after the other while the rest wait.
    """
    name = "cpu" if device == "cpu" else torch.cuda.get_device_name(device)
    sizes = {"batch_size": BATCH, "steps": steps, "rounds": rounds, "per_gpu": per_gpu}
    made: dict[str, Any] = {"device": name, "torch": torch.__version__, "day": f"{date.today()}", **sizes, "rows": []}
    for pair in pairs:
        started, plain = [Side(side, pair, device, steps, per_gpu) for side in sides], None
        for side in started:
            side.warmed_up()
        for side in started:
            row = side.measure(rounds)
            plain = row.get("ms") if row["side"] == "plain" else plain
            if plain and "ms" in row:
                row["against_plain"] = round(plain / row["ms"], 2)
            made["rows"].append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
            yield made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--pairs", nargs="+", default=PAIRS, metavar="TEACHER:STUDENT")
    parser.add_argument("--sides", nargs="+", default=SIDES, choices=SIDES)
    parser.add_argument("--steps", type=int, default=100, help="in an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--per-gpu", type=int, default=4, help="cells at once in the rows of that name")
    parser.add_argument("--out", type=Path, help="where the JSON goes; default: standard output")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        serve(given.serve, given.pairs[0].split(":"), given.device, given.steps)
        return
    sizes = {"steps": given.steps, "rounds": given.rounds, "per_gpu": given.per_gpu}
    for made in table(given.pairs, given.sides, given.device, **sizes):
        if given.out:  # anew after each row: a table that is broken off keeps what it has
            given.out.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    if not given.out:
        print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
