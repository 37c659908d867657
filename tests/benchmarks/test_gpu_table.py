"""The table for GPUs, tried on a CPU with tiny networks: its sides train, and failures are told."""

import pytest

from tests.benchmarks import gpu_table

PAIR = ("resnet8w8s2", "resnet8w8s2")


@pytest.mark.parametrize("side", ["eager", "bf16", "per-gpu", "bf16 per-gpu"])
def test_a_side_trains_one_cell_for_an_epoch(side):
    trained = gpu_table.work(side, PAIR, "cpu", steps=1)()()
    assert trained.steps == 1 and trained.curves["train.student.kd"][0] > 0


def test_a_side_in_lockstep_trains_all_methods():
    assert gpu_table.work("lockstep", PAIR, "cpu", steps=1)()() == list(gpu_table.METHODS)


def test_rows_are_of_all_cells_at_once_and_say_why_one_is_not_measured():
    *_, made = gpu_table.table([":".join(PAIR)], ["per-gpu", "tf32"], "cpu", steps=1, rounds=1, per_gpu=2)
    together, refused = made["rows"]
    assert made["device"] == "cpu" and together["cells"] == 2
    assert 0 < 2 * together["ms"] < 1000 * together["ready_s"]
    assert "precision tf32 needs a GPU" in refused["failed"] and "ms" not in refused
