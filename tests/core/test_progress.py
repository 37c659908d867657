"""The sums of an epoch's terms: one tensor on the device, the very numbers of sums that are kept one by one."""

import io
from functools import reduce
from operator import add

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from adm_core.errors import AdmError
from adm_core.method import Losses
from adm_core.outcome import Outcome, collect
from adm_core.progress import Progress

TERMS = {f"student.{name}": name for name in "abcdefgh"}


def outcome(values, log=()):
    terms = {name: torch.tensor(value) for name, value in values.items()}
    return Outcome(torch.zeros(()), terms, {name: torch.tensor(value) for name, value in dict(log).items()})


def steps(count=40):
    """Terms that come, go, and come back, as in phases, at magnitudes at which every rounding shows."""
    g = torch.Generator().manual_seed(0)
    for step in range(count):
        names = list(TERMS)[: 8 if step % 20 < 10 else 3]
        values = (torch.rand(len(names), generator=g) * 10.0 ** (step % 7)).tolist()
        log = {"weight": 0.1 * step} if step % 3 else {}
        yield dict(zip(names, values, strict=True)), log


def one_by_one(some):
    """The mean of every curve, from float64 sums of float32 values in the order of the steps."""
    seen = {}
    for values, log in some:
        named = {f"train.{name}": v for name, v in values.items()} | {f"log.{name}": v for name, v in log.items()}
        for name, value in named.items():
            seen.setdefault(name, []).append(float(torch.tensor(value)))
    return {name: reduce(add, each) / len(each) for name, each in seen.items()}


def test_means_are_those_of_single_sums_to_the_bit():
    progress = Progress()
    for values, log in steps():
        progress.add(outcome(values, log))
    assert progress.means() == one_by_one(steps())
    progress.add(outcome({"student.b": 2.0}))
    assert progress.means() == {"train.student.b": 2.0}  # a new epoch begins from nothing


def test_a_checkpoint_within_an_epoch_keeps_the_sums():
    progress, file = Progress(), io.BytesIO()
    for number, (values, log) in enumerate(steps()):
        if number == 17:
            torch.save(progress.state(), file)
            file.seek(0)
            progress = Progress.of_state(torch.load(file, weights_only=True), torch.device("cpu"))
        progress.add(outcome(values, log))
    assert progress.means() == one_by_one(steps())


class Counted(TorchDispatchMode):
    """Counts operations that compute; views and detached names start no kernel."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if not func.is_view and name != "detach":
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def test_a_step_of_many_terms_is_summed_by_two_operations():
    progress, given = Progress(), outcome(dict.fromkeys(TERMS, 1.0), {"weight": 1.0, "share": 2.0})
    progress.add(given)
    with Counted() as counted:
        progress.add(given)
    assert len(counted.names) == 2, counted.names


def test_a_lone_task_loss_of_weight_one_is_the_total_itself():
    task = torch.tensor(2.0, requires_grad=True) * 1.5
    with Counted() as counted:
        total = collect("none", Losses(), {"student": task}, {}).total
    assert total is task and not counted.names


def test_what_became_infinite_is_named_among_terms_summed_together():
    progress = Progress(step=3)
    progress.add(outcome({"student.task": 1.0, "student.kd": float("inf")}))
    with pytest.raises(Exception, match=r"train\.student\.kd became inf in epoch 2 of 5"):
        progress.check_finite(2, 5)


@pytest.mark.parametrize(
    ("value", "told"),
    [(torch.ones(2), r"a scalar tensor, not \(2,\)"), (1.0, "a scalar tensor, not float"),
     (torch.ones((), device="meta"), "on cpu, not meta")],
)  # fmt: skip
def test_a_value_to_log_is_a_scalar_where_the_losses_are(value, told):
    task = torch.ones((), requires_grad=True) * 2
    with pytest.raises(AdmError, match=f"method 'toy': log value 'share' must be {told}"):
        collect("toy", Losses(log={"share": value}), {"student": task}, {})
