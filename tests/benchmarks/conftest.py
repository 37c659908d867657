"""What benchmarks tell: on the screen, and in the JSON of which ``docs/speed.py`` makes the tables of the docs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from adm_core import cpu

Tell = Callable[..., None]


@pytest.fixture
def tell(benchmark, capsys) -> Tell:
    """Prints one measurement, and keeps it in the benchmark's JSON.

    Called with what was measured, as a row of the table names it, and with the result in words; ``headline`` rows stand
    in the README as well. Further keywords are the result's figures.
    """

    def told(what: str, result: str, *, headline: bool = False, **figures: Any) -> None:
        row = {"what": what, "result": result, "headline": headline, "figures": figures}
        benchmark.extra_info.setdefault("rows", []).append(row)
        with capsys.disabled():
            print(f"\n{what}: {result}")

    return told


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """What the figures depend on and pytest-benchmark does not tell."""
    machine_info["torch"] = torch.__version__.partition("+")[0]
    machine_info["kernels"] = torch.backends.cpu.get_cpu_capability()
    machine_info["processor"] = cpu.told().get("model name", machine_info.get("processor", ""))
