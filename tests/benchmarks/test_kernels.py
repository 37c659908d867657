"""What portable kernels cost: steps of each task's quick networks on them and on the widest that the processor has.

    OMP_NUM_THREADS=1 pytest tests/benchmarks/test_kernels.py --benchmark-only -s

A library chooses its kernels once, so each choice has a process of its own; these take turns, and the best of each
counts. On a processor without AVX-512 both choices are the same kernels.
"""

import json
import os
import subprocess
import sys
import time

import pytest

from adm_core import kernels

STEPS, ROUNDS = 24, 2
TASKS = ("classification", "segmentation", "diffusion")
ONE_ROUND = """
import json, sys, torch
torch.set_num_threads(1)
from tests.benchmarks.test_kernels import step_seconds
print(json.dumps([torch.backends.cpu.get_cpu_capability(), min(step_seconds(sys.argv[1]) for _ in range(3))]))
"""


def step_seconds(task: str) -> float:
    """CPU seconds of a training step: offline KD, and for denoisers the student's imitation of the teacher's output."""
    from adm_core.optimizer import make_optimizers
    from adm_core.recipe import Recipe
    from tests.benchmarks import test_diffusion_step, test_segmentation_step, test_step

    if task == "segmentation":
        return test_segmentation_step.ours() / test_segmentation_step.STEPS
    if task == "diffusion":
        sampling = test_diffusion_step.Denoising({"sampling": test_diffusion_step.SAMPLING}, 1, 8, 64, STEPS)
        return test_diffusion_step.ours(sampling, "output", "offline") / STEPS
    model = test_step.distiller(("resnet14w16s2", "resnet8w8s2"), "kd", "offline", 28)
    optimizer = make_optimizers(model, Recipe(epochs=1, batch_size=test_step.BATCH, optimizer=test_step.SGD))[0]
    batches = test_step.noise(STEPS, 28)
    test_step.bare(model, optimizer, batches[:4])
    work = lambda: test_step.bare(model, optimizer, batches)  # noqa: E731
    return test_step.seconds(work, time.process_time) / STEPS


@pytest.mark.parametrize("task", TASKS)
def test_portable_kernels_cost_little(benchmark, tell, task):
    best: dict[str, tuple[float, str]] = {}
    for _ in range(ROUNDS):
        for choice in ("portable", "native"):
            environment = dict(os.environ)
            kernels.settle(environment, choice)
            command = [sys.executable, "-c", ONE_ROUND, task]
            run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            capability, took = json.loads(run.stdout.splitlines()[-1])
            best[choice] = min(best.get(choice, (took, capability)), (took, capability))
    (portable, narrow), (native, wide) = best["portable"], best["native"]
    benchmark.pedantic(step_seconds, (task,), rounds=1)
    tell(
        f"portable kernels ({narrow}) against native ones ({wide}), {task}",
        f"{portable / native:.2f} × the time ({1000 * native:.1f} → {1000 * portable:.1f} ms)",
        portable_ms=1000 * portable, native_ms=1000 * native,
    )  # fmt: skip
