"""What processes gain that train a cell together: a KD step in two micro-batches, by one process and by two.

    OMP_NUM_THREADS=1 pytest tests/benchmarks/test_ranks.py --benchmark-only -s

On a core for each process, with gloo; the rounds of both take turns. It is a bound from above of what the exchange
costs: on GPUs gradients go by NCCL.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

import pytest
import torch

from adm_core import freed_memory, ranks
from adm_core.cpu import cores
from adm_core.recipe import Recipe
from adm_core.train import Trainer
from tasks.classification.batches import InMemoryBatches
from tests.benchmarks.test_data_path import MEAN, STD
from tests.benchmarks.test_step import BATCH, SGD, FixedTask, cifar_like, distiller

PAIR, STEPS, ROUNDS = ("resnet56", "resnet20"), 12, 3


def serve(rank: int, count: int, meeting: str) -> None:
    """Train epoch after epoch with the other processes, one for every line that this one is sent."""
    torch.set_num_threads(1)
    freed_memory.keep()
    together = ranks.join(meeting, rank, count, torch.device("cpu")) if count > 1 else ranks.Ranks()
    loader = InMemoryBatches(cifar_like(STEPS * BATCH), BATCH, 0, "cpu", mean=MEAN, std=STD, crop_padding=4, flip=True)
    task = FixedTask(loader.batches, STEPS)
    recipe = Recipe(epochs=1, batch_size=BATCH, accumulate=2, optimizer=SGD)
    print("ready", flush=True)
    for _ in sys.stdin:
        made = Trainer(distiller(PAIR, "kd", "offline"), task, recipe, 0, ranks=together)
        began = time.perf_counter()
        made.run()
        print((time.perf_counter() - began) / STEPS, flush=True)


def start(count: int, folder: str) -> list[subprocess.Popen[str]]:
    """The processes of one side, warmed up."""
    command = [sys.executable, "-m", "tests.benchmarks.test_ranks"]
    own = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": own}
    made = [subprocess.Popen([*command, str(r), str(count), f"{folder}/{count}"], **pipes) for r in range(count)]  # type: ignore[call-overload]
    for process in made:
        assert process.stdout.readline() == "ready\n"
    epoch(made)
    return made


def epoch(processes: list[subprocess.Popen[str]]) -> float:
    """Seconds a step of the slowest process."""
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    return max(float(process.stdout.readline()) for process in processes if process.stdout)


@pytest.mark.skipif(cores() < 2, reason="two processes want two cores")
def test_two_processes_and_one(benchmark: pytest.FixtureRequest) -> None:
    times: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        sides = {count: start(count, folder) for count in times}

        def round_of_both() -> None:
            for count, processes in sides.items():
                times[count].append(epoch(processes))

        benchmark.pedantic(round_of_both, rounds=ROUNDS)  # type: ignore[attr-defined]
        for process in (one for side in sides.values() for one in side):
            process.kill()
            process.wait()
    best = {count: 1000 * min(taken) for count, taken in times.items()}
    benchmark.extra_info.update({f"{count} processes, ms a step": round(ms) for count, ms in best.items()})  # type: ignore[attr-defined]
    print(f"\na step by one process {best[1]:.0f} ms, by two {best[2]:.0f} ms: {best[1] / best[2]:.2f} times as fast")


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
