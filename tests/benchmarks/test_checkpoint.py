"""What a cell spends its time on beside training: startup, evaluation, checkpoints.

    OMP_NUM_THREADS=1 ADM_DATA=DATA pytest tests/benchmarks/test_checkpoint.py --benchmark-only -s

Whole cells, trained in this process as a worker trains them, at default settings and in a store that holds what an
earlier cell of the suite has left there. Shares are of wall time, as checkpoints wait for the disk. Startup is all that
comes before the first step but for the imports, which workers are forked with. Claims: checkpoints take less than 2 %
of the CamVid cell, in which there are two or three on one core; startup of a quick cell takes less than half a second.
"""

import time

import pytest

from adm_core import checkpoint, freed_memory
from adm_core.errors import AdmError
from suites.plan.selection import KEYS
from suites.spec.expand import expand
from suites.work.options import RunOptions
from suites.worker.training import train_cell
from tasks import catalogue, datasets


def timed(monkeypatch, owner, name, spent):
    """Count the seconds of all calls of a function."""
    original = getattr(owner, name)

    def run(*given):
        began = time.perf_counter()
        try:
            return original(*given)
        finally:
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - began

    monkeypatch.setattr(owner, name, run)


def spend(suite, store, monkeypatch, **wanted):
    """Train one cell of a suite; seconds of it all, and of its parts."""
    (planned,) = (cell for cell in expand(suite).cells if all(KEYS[key](cell) == wanted[key] for key in wanted))
    work, spent = store / "work" / planned.id, {"save": 0.0}
    options = RunOptions(device="cpu", store=store)
    datasets._made.cache_clear()
    with monkeypatch.context() as patch:
        timed(patch, catalogue.task_class(planned.cell.task), "evaluate", spent)
        timed(patch, checkpoint, "save", spent)
        began = time.perf_counter()
        made = train_cell(planned.cell, planned.protocol, work, options, lambda _: None)
        whole = time.perf_counter() - began
    return {"whole": whole, "startup": made["cost"]["setup_s"], "evaluation": spent["evaluate"],
            "checkpoints": spent["save"]}  # fmt: skip


def told(tell, title, seconds):
    """Tell the parts' shares."""
    whole = seconds["whole"]
    parts = [f"{name} {took:.2f} s, {100 * took / whole:.1f} %" for name, took in seconds.items() if name != "whole"]
    tell(f"{title}: what is not training", f"{'; '.join(parts)}, of {whole:.0f} s", headline=True, **seconds)


def test_a_quick_cell_spends_its_time_on_training(benchmark, tell, tmp_path, monkeypatch):
    """Online ``none`` on digit-scenes; the first seed fills the store."""
    freed_memory.keep()  # as every worker does
    wanted = {"regime": "online", "method": "none"}
    spend("quick", tmp_path, monkeypatch, seed="1", **wanted)
    seconds = benchmark.pedantic(lambda: spend("quick", tmp_path, monkeypatch, seed="0", **wanted), rounds=1)
    told(tell, "quick, online none", seconds)
    assert seconds["startup"] < 0.5


def test_checkpoints_take_little_of_a_camvid_cell(benchmark, tell, tmp_path, monkeypatch):
    """Online ``dml+adm`` of camvid-smoke, whose checkpoint of two networks with their optimiser is 12 MB."""
    try:
        datasets.require("camvid", datasets.roots_from_environment())
    except AdmError as error:
        pytest.skip(str(error))
    freed_memory.keep()
    wanted = {"regime": "online", "method": "dml+adm", "seed": "0"}
    seconds = benchmark.pedantic(lambda: spend("seg-camvid-smoke", tmp_path, monkeypatch, **wanted), rounds=1)
    told(tell, "seg-camvid-smoke, online dml+adm", seconds)
    assert 0 < seconds["checkpoints"] < 0.02 * seconds["whole"]
