"""Saving trained weights: tensors of several names, and what cannot be saved is noticed before training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from drive import ONE_CELL
from torch import nn

from adm_core import registry
from adm_core.errors import AdmError
from adm_core.taps import Network
from suites.spec.expand import expand
from suites.work.options import RunOptions
from suites.worker.training import train_cell
from suites.worker.weights import load_weights, save_weights

UNSAVABLE = """
from torch import nn
from adm_core import Losses, Method, MethodCard, Needs, register


class Remembers(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)

    def get_extra_state(self):
        return {"epoch": 3}


@register
class Unsavable(Method):
    card = MethodCard("unsavable", "t", "none", 2026, frozenset({"online"}), "logits", deployed="a wrapped student")
    needs = Needs(prediction="class_logits")

    def losses(self, student, teacher, step):
        return Losses()

    def deployed(self, networks):
        return Remembers(networks["student"].module)
"""


class Tied(nn.Module):
    """Two layers of one weight, and a buffer that is a part of another's memory."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight
        both = torch.full((2, 3), value)
        self.register_buffer("whole", both)
        self.register_buffer("row", both[1])


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_case_18_tensors_that_share_memory_are_saved_and_loaded(tmp_path: Path) -> None:
    """safetensors/safetensors#98: timm's coat_* have one table under several names."""
    given, taker = (Network("tied", Tied(value)) for value in (1.0, 2.0))
    save_weights(given, tmp_path / "weights.safetensors")
    load_weights(taker, tmp_path / "weights.safetensors")
    assert same(given.module.state_dict(), taker.module.state_dict())
    assert taker.module.a.weight is taker.module.b.weight


def test_case_18_what_cannot_be_saved_is_noticed_before_training(tmp_path: Path) -> None:
    """The network whose state is no tensor alone would fail after the whole training, at every try."""
    (tmp_path / "method.py").write_text(UNSAVABLE)
    (tmp_path / "mine.yaml").write_text(ONE_CELL.replace("[none]", "[unsavable]"))
    registry.load_file(tmp_path / "method.py")
    planned, reports = expand(str(tmp_path / "mine.yaml")).rows[0], list[dict[str, Any]]()
    options = RunOptions(device="cpu", store=tmp_path)
    with pytest.raises(AdmError, match=r"'resnet8w8s2' cannot be saved: its state holds '_extra_state', a dict"):
        train_cell(planned.cell, planned.protocol, tmp_path / "w", options, reports.append)
    assert not reports and not list((tmp_path / "w").iterdir())


def test_case_10_a_teacher_whose_weights_are_not_finite_is_refused(tmp_path: Path) -> None:
    """fcdl94/MiB#18, of a teacher that a store holds."""
    given = Network("tied", Tied(float("nan")))
    save_weights(given, tmp_path / "weights.safetensors")
    with pytest.raises(AdmError, match=r"weights of teacher 'tied' are not finite: .*: 2 of 6 \(row, whole\); delete"):
        load_weights(Network("tied", Tied(1.0)), tmp_path / "weights.safetensors")
