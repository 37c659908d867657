"""A frozen teacher is judged once per weights, split and settings; what trains is judged every time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adm_core.recipe import Protocol
from adm_core.taps import Network
from adm_core.task import TaskContext
from tasks.classification.task import ClassificationTask

RECIPE = {"epochs": 1, "batch_size": 32, "optimizer": {"name": "sgd", "lr": 0.1}}


class Counted(ClassificationTask):
    """Knows of which networks it has asked for predictions."""

    asked: tuple[str, ...] = ()

    def _predict(self, networks: Mapping[str, Network], split: object) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        self.asked = (*self.asked, *(network.name for network in networks.values()))
        return super()._predict(networks, split)


def opened(artefacts: Path | None, **data: object) -> Counted:
    settings = {"validation": 0.25, "train_limit": 96, "test_limit": 64} | data
    protocol = Protocol.model_validate(
        {"title": "t", "source": "t", "task": "classification", "recipe": RECIPE, "data": settings}
    )
    return Counted(TaskContext("digit-scenes@1", protocol, 0, torch.device("cpu"), artefacts=artefacts))


def pair(task: Counted, seed: int = 0) -> dict[str, Network]:
    """A student, and a teacher that does not train."""
    torch.manual_seed(seed)
    teacher = task.network("resnet14w16s2")
    teacher.module.requires_grad_(False)
    torch.manual_seed(9)
    return {"student": task.network("resnet8w8s2"), "teacher": teacher}


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_frozen_teacher_is_judged_once_by_all_cells_to_the_same_scores(tmp_path: Path, split: str) -> None:
    first, times = opened(tmp_path), 1 if split == "validation" else 2  # a temperature is fitted on validation
    plain = opened(None)
    expected = plain.evaluate(pair(plain), split)
    assert first.evaluate(pair(first), split) == expected
    assert first.asked == ("resnet8w8s2", "resnet14w16s2") * times
    assert first.evaluate(pair(first), split) == expected
    another = opened(tmp_path)
    assert another.evaluate(pair(another), split) == expected and "agreement" in expected["student"]
    assert "resnet14w16s2" not in another.asked + first.asked[2 * times :]
    assert len(list((tmp_path / "scores").iterdir())) == 1


def test_other_weights_another_split_and_other_settings_are_judged_apart(tmp_path: Path) -> None:
    task, other = opened(tmp_path), opened(tmp_path, test_limit=32)
    task.evaluate(pair(task), "validation")
    task.evaluate(pair(task, seed=1), "validation")
    task.evaluate(pair(task), "test")
    other.evaluate(pair(other), "test")
    assert len(list((tmp_path / "scores").iterdir())) == 4


def test_what_trains_is_never_taken_from_a_file(tmp_path: Path) -> None:
    task = opened(tmp_path)
    networks = pair(task)
    networks["teacher"].module.requires_grad_(True)
    task.evaluate(networks, "validation")
    assert not (tmp_path / "scores").exists()


@pytest.mark.parametrize("spoilt", ["", '{"scores": {"top1": 1', '{"scores": {}}', "[]", "\x00\x01"])
def test_a_damaged_file_is_made_anew(tmp_path: Path, spoilt: str) -> None:
    task = opened(tmp_path)
    expected = task.evaluate(pair(task), "validation")
    (file,) = (tmp_path / "scores").iterdir()
    content = file.read_bytes()
    file.write_text(spoilt)
    assert task.evaluate(pair(task), "validation") == expected and file.read_bytes() == content


def test_a_network_of_the_same_weights_and_another_build_is_another(tmp_path: Path) -> None:
    task = opened(tmp_path)
    networks = pair(task)
    task.evaluate(networks, "validation")
    doubled = replace(networks["teacher"], module=torch.nn.Sequential(networks["teacher"].module, torch.nn.Tanh()))
    task.evaluate(networks | {"teacher": doubled}, "validation")
    assert len(list((tmp_path / "scores").iterdir())) == 2
