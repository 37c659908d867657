"""What training takes: the median of step times, and the peak of memory of training alone."""

import statistics
import time

import pytest
import torch

from adm_core import checkpoint, meter
from adm_core.recipe import Recipe
from tests.core.resuming import Stop, StoppingTask
from tests.core.toy import ToyTask, trainer

CPU = torch.device("cpu")
RECIPE = Recipe.model_validate({"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}})


def test_times_run_from_one_step_to_the_next_and_add_up_to_the_span():
    measured = meter.Meter(CPU)
    for pauses in ((0.002, 0.03, 0.004), (0.001,)):
        measured.begin()
        for pause in pauses:
            time.sleep(pause)
            measured.step()
        found = measured.end()
        assert len(found.step_ms) == len(pauses)
        assert all(1000 * pause <= ms < 1000 * pause + 25 for ms, pause in zip(found.step_ms, pauses, strict=True))
        assert sum(found.step_ms) / 1000 == pytest.approx(found.seconds, abs=0.01)


def test_the_time_of_a_step_is_the_median_over_all_attempts(tmp_path):
    class Slow(ToyTask):
        """Its first batch takes a while, as the first of a run does."""

        def batches(self, epoch, start):
            time.sleep(0.3 if (epoch, start) == (0, 0) else 0.0)
            yield from super().batches(epoch, start)

    run = trainer(RECIPE, "none", "alone", Slow())
    trained = run.run()
    times = run.progress.step_ms
    assert len(times) == 12 and times[0] > 300
    assert trained.step_ms == statistics.median(times) < 100 < 1000 * trained.seconds / 12 + 100

    options = {"checkpoint_file": tmp_path / "c.pt", "checkpoint_seconds": 0.0}
    with pytest.raises(Stop):
        trainer(RECIPE, "none", "alone", StoppingTask((1, 3)), **options).run()
    kept = checkpoint.load(tmp_path / "c.pt")
    assert kept["step_ms"].dtype == torch.float32 and len(kept["step_ms"]) == kept["step_ms"].numel() > 0
    again = trainer(RECIPE, "none", "alone", **options)
    again.run()
    assert len(again.progress.step_ms) == 12
    assert again.progress.step_ms[: len(kept["step_ms"])] == kept["step_ms"].tolist()


class Greedy(ToyTask):
    """Takes memory in training and in evaluation, MiB each."""

    def __init__(self, training, evaluation):
        super().__init__(steps_per_epoch=2)
        self.training, self.evaluation = training, evaluation

    def batches(self, epoch, start):
        for batch in super().batches(epoch, start):
            torch.ones(self.training, 2**18)
            yield batch

    def evaluate(self, networks, split):
        torch.ones(self.evaluation, 2**18)
        return super().evaluate(networks, split)


def test_the_peak_of_memory_is_that_of_training_alone():
    """Neither of evaluation nor of what the process did before, as this one did much."""
    if meter._peak_before() > 0:
        pytest.skip("this system does not measure the peak of a process anew")
    sizes = ((1, 1), (1, 300), (200, 1), (1, 1))
    little, evaluating, training, later = (trainer(RECIPE, "none", "alone", Greedy(*s)).run().peak_mb for s in sizes)
    assert evaluating < little + 100 and later < little + 100
    assert training > little + 150


@pytest.mark.parametrize("refuses", [True, False], ids=["refused", "without effect"])
def test_a_peak_that_cannot_be_measured_anew_is_told_where_it_grew(refuses, tmp_path, monkeypatch):
    if not refuses:
        (tmp_path / "status").write_text("VmHWM:\t  2048000 kB\nVmRSS:\t  1024000 kB\n")
    monkeypatch.setattr(meter, "_PROCESS", tmp_path if not refuses else tmp_path / "absent")
    peaks = iter((700.0, 700.0, 700.0, 900.0))
    monkeypatch.setattr(meter, "_peak_of_process", lambda: next(peaks))
    measured, found = meter.Meter(CPU), []
    for _ in range(2):
        measured.begin()
        measured.step()
        found.append(measured.end().peak_mb)
    assert found == [None, 900.0]
