"""How long the commands that train nothing take, as processes, from the shell's point of view.

    OMP_NUM_THREADS=1 pytest tests/benchmarks/test_cli_latency.py --benchmark-only -s

Claim: under 0.7 s each. The best of several calls counts: the first one reads the disk, and other work on the machine
slows any of them.
"""

import subprocess
import sys
import time
from pathlib import Path

import pytest

ADM = Path(sys.executable).with_name("adm")
CALLS = 8


@pytest.mark.parametrize("words", ["--help", "list methods", "list networks", "plan quick"])
def test_a_command_answers_at_once(benchmark, tell, tmp_path, words):
    took = []

    def call() -> None:
        began = time.perf_counter()
        done = subprocess.run([str(ADM), *words.split()], cwd=tmp_path, capture_output=True, timeout=60)
        took.append(time.perf_counter() - began)
        assert done.returncode == 0

    benchmark.pedantic(call, rounds=CALLS)
    best = min(took)
    tell(f"`adm {words}`", f"{best:.2f} s", best_s=best, calls=CALLS)
