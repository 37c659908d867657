"""Networks that run compiled: eager's numbers to rounding, every tap, plain names of weights.

Torch's backend ``aot_eager`` stands in for inductor: it traces, guards and differentiates alike, and makes no machine
code, which takes minutes. :mod:`tests.benchmarks.gpu_table` runs that.
"""

from functools import partial

import pytest
import torch
from torch._dynamo.utils import counters

from adm_core import compiling
from adm_core.compute import training_flops
from adm_core.errors import AdmError, Stopped
from adm_core.lockstep import Lockstep
from adm_core.recipe import Optimizer, Recipe
from tests.core.toy import ToyTask, trainer, weights

COMPILE = torch.compile


def recipe(**changes):
    given = {"epochs": 2, "batch_size": 16, "optimizer": Optimizer(lr=0.05), "kernels": "native"} | changes
    return Recipe(**given)


@pytest.fixture
def traced(monkeypatch):
    monkeypatch.setattr(compiling.torch, "compile", partial(COMPILE, backend="aot_eager"))
    torch._dynamo.reset()
    counters.clear()


def run(method, task=None, **changes):
    made = trainer(recipe(**changes), method, "offline", task or ToyTask(steps_per_epoch=3))
    return made, made.run()


def graphs():
    return counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_curves_taps_and_names_are_those_of_eager(traced, precision):
    eager, without = run("at", precision=precision)
    assert not graphs()
    ours, made = run("at", precision=precision, compile=True)
    assert graphs() == 2  # the teacher's and the student's: one each, whatever number of steps and epochs
    assert made.curves.keys() == without.curves.keys() and "train.student.attention" in made.curves
    for name, column in without.curves.items():
        assert made.curves[name] == pytest.approx(column, rel=1e-4 if precision == "fp32" else 0.05), name
    assert weights(ours).keys() == weights(eager).keys()
    assert not any("_orig_mod" in name for name in made.networks["student"].module.state_dict())


def test_a_stopped_run_goes_on_to_the_same_weights(traced, tmp_path):
    whole, _ = run("at", compile=True)
    task, steps = ToyTask(steps_per_epoch=3), iter([False, True])
    options = {"checkpoint_file": tmp_path / "checkpoint.pt", "task": ToyTask(steps_per_epoch=3)}
    first = trainer(recipe(compile=True), "at", "offline", asked_to_stop=lambda: next(steps), **options)
    with pytest.raises(Stopped):
        first.run()
    again = trainer(recipe(compile=True), "at", "offline", **options | {"task": task})
    again.run()
    assert task.seen[0] == (0, 2)
    ours, theirs = weights(whole), weights(again)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_members_in_lockstep_read_each_its_own_taps(traced):
    """One class of networks, three sets of taps, one teacher that shows them all."""
    methods, task = ("kd", "at", "fitnet"), ToyTask(steps_per_epoch=3)
    alone = {name: run(name, compile=True)[0] for name in methods}
    together = {name: trainer(recipe(compile=True), name, "offline", task) for name in methods}
    teacher = next(iter(together.values())).distiller.teacher
    for member in together.values():
        member.distiller.__dict__["teacher"] = teacher
    assert Lockstep(together, pytest.fail).run() == list(methods)
    for name in methods:
        ours, theirs = weights(alone[name]), weights(together[name])
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items()), name


def test_operations_are_counted_as_without(traced):
    batch = next(ToyTask().batches(0, 0))
    plain, ours = (trainer(recipe(compile=mode), "at", "offline") for mode in (False, True))
    assert training_flops(ours, batch) == training_flops(plain, batch) > 0


def test_a_missing_compiler_is_told_before_training(monkeypatch):
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    def missing():
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", missing)
    with pytest.raises(AdmError, match=r"recipe\.compile needs a C\+\+ compiler on a CPU"):
        trainer(recipe(compile=True), "kd", "offline")


def test_code_for_this_machine_is_not_called_portable():
    with pytest.raises(ValueError, match="kernels: native"):
        recipe(compile=True, kernels="portable")
    with pytest.raises(ValueError, match="reduce-overhead"):
        recipe(compile="max-autotune")
