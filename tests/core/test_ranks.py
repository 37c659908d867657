"""Processes that train a cell together, against one that trains it alone; two real ones, by gloo."""

import json
import os
import subprocess
import sys

import pytest
import torch

from adm_core.batch import WHOLE, Batch, Share
from adm_core.errors import AdmError
from adm_core.ranks import Ranks
from tests.core.ranks import CASES, result
from tests.core.ranks import recipe as recipe_of
from tests.core.toy import trainer

ALIKE = ("adm", "void pixels", "equals", "paused", "own statistics", "random draws", "few-step")


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """A folder with what two processes have left of all cases."""
    folder = tmp_path_factory.mktemp("ranks")
    cases = [*CASES, "stopped"]
    command = [sys.executable, "-m", "tests.core.ranks"]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    running = [
        subprocess.Popen([*command, str(rank), "2", str(folder), *cases], stderr=subprocess.PIPE, env=environment)
        for rank in range(2)
    ]
    try:
        told = [process.communicate(timeout=900)[1].decode() for process in running]  # a busy machine takes minutes
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], "\n".join(told)
    return folder


def told(folder, case, rank=0):
    """What a process has left of a case: how it ended, and the state of each network."""
    return json.loads((folder / f"{case} {rank}.json").read_text()), torch.load(folder / f"{case} {rank}.pt")


def assert_alike(states, networks):
    """All weights and buffers are equal but for rounding."""
    assert states.keys() == networks.keys()
    for role, module in networks.items():
        for name, value in module.state_dict().items():
            torch.testing.assert_close(states[role][name], value, rtol=2e-4, atol=2e-5, msg=f"{role} {name}")


@pytest.mark.parametrize("case", ALIKE)
def test_two_processes_end_where_one_ends(together, case):
    """Weights, running statistics, moving averages, curves and the selected epoch."""
    expected, networks = result(CASES[case])
    found, states = told(together, case)
    assert "error" not in expected and found["epoch"] == expected["epoch"]
    assert_alike(states, networks)
    assert found["curves"].keys() == expected["curves"].keys()
    for name, curve in expected["curves"].items():
        for value, wanted in zip(found["curves"][name], curve, strict=True):
            assert value == (wanted if wanted is None else pytest.approx(wanted, rel=1e-3, abs=1e-5)), name


@pytest.mark.parametrize("case", ALIKE)
def test_both_processes_hold_the_same_bits(together, case):
    (one, states), (other, theirs) = told(together, case, 0), told(together, case, 1)
    assert one == other
    for role, state in states.items():
        assert all(torch.equal(value, theirs[role][name]) for name, value in state.items()), role


def test_a_request_to_stop_reaches_all_and_they_go_on_together(together):
    expected, networks = result(lambda: trainer(recipe_of(batch_size=16)))
    for rank in range(2):
        found, states = told(together, "stopped", rank)
        assert found["first"]["error"].startswith("Stopped: stopped in epoch 2 of 2")
        assert_alike(states, networks)
    assert found["curves"]["train.student.task"] == pytest.approx(expected["curves"]["train.student.task"], rel=1e-3)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("memory", "AdmError: method 'crd' keeps state that follows from the examples each process has seen (parts."),
        (
            "later memory",
            "AdmError: method 'remembers' keeps state that follows from the examples each process has seen",
        ),
        ("groups", "AdmError: a method that keeps groups of gradients apart is trained by one process only"),
        ("indivisible", "AdmError: 2 processes cannot share a step of 3 micro-batches evenly: recipe.accumulate is to"),
        ("diverging", "Diverged: "),
    ],
)
def test_what_cannot_be_shared_is_refused_by_all_at_once(together, case, words):
    for rank in range(2):
        assert told(together, case, rank)[0]["error"].startswith(words)


def test_shares_are_the_micro_batches_of_one_process():
    x = torch.arange(12).view(12, 1, 1, 1).float()
    batch = Batch(x, x, torch.arange(12), torch.arange(100, 112), mask=torch.ones(12, 2, 2, dtype=torch.bool))
    whole = [part.index.tolist() for part in batch.chunks(6)]
    shares = [Share(rank, 3, 6) for rank in range(3)]
    assert [number for share in shares for number in share.own] == list(range(6))
    assert [part.index.tolist() for share in shares for part in share.of(batch).chunks(2)] == whole
    wanted = list(range(24))
    assert [share.cut(wanted, 12) for share in shares] == [
        ([0, 1, 2, 3, 12, 13, 14, 15], 4), ([4, 5, 6, 7, 16, 17, 18, 19], 4), ([8, 9, 10, 11, 20, 21, 22, 23], 4),
    ]  # fmt: skip
    assert WHOLE.of(batch) is batch and WHOLE.cut(wanted, 12) == (wanted, 12)
    with pytest.raises(AdmError, match="a batch of 10 examples does not fall into 6 equal micro-batches"):
        shares[0].of(Batch(x[:10], x[:10], batch.target[:10], batch.index[:10]))


def test_one_process_asks_nobody():
    alone = Ranks()
    assert alone.is_first and alone.share(3) == Share(0, 1, 3) and alone.unite([], [], True) == ([], True)
