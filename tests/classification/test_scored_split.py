"""Settings are chosen without a look at the test split."""

from __future__ import annotations

import pytest
import torch

from adm_core.errors import AdmError
from adm_core.task import TaskContext
from suites.spec.definition import load_protocol
from suites.spec.protocols import on_validation
from tasks import datasets
from tasks.classification import data_settings
from tasks.classification.task import ClassificationTask


def test_a_protocol_scored_on_validation_never_reads_the_test_split(monkeypatch: pytest.MonkeyPatch) -> None:
    read, load = [], datasets.load
    monkeypatch.setattr(datasets, "load", lambda name, split, *rest: read.append(split) or load(name, split, *rest))
    protocol = on_validation(*load_protocol("digit-scenes-quick"))[1]
    task = ClassificationTask(TaskContext("digit-scenes@1", protocol, 0, torch.device("cpu")))
    network = {"student": task.network("resnet8w8s2")}
    scores = task.evaluate(network, "test")
    assert sorted(read) == ["train", "validation"]
    assert scores == task.evaluate(network, "validation") and scores["student"]["ece_ts"] is None


def test_scoring_on_a_validation_split_that_is_not_there_is_refused() -> None:
    with pytest.raises(AdmError, match=r"mine: key 'data\.scored' = 'validation': .* needs a validation split"):
        data_settings.read({"scored": "validation"}, "mine")
