"""A frozen teacher of segmentation is evaluated once for all cells, to the same scores as beside each student."""

import pytest
import torch

from adm_core.errors import AdmError
from adm_core.recipe import Optimizer, Protocol, Recipe
from adm_core.task import TaskContext
from tasks.segmentation import evaluation
from tasks.segmentation.class_maps import MapReader, MapWriter
from tasks.segmentation.task import TASK

DATA = {"crop": [64, 64], "flip": False, "train_limit": 24, "test_limit": 20, "validation": "own"}


def open_task(artefacts):
    recipe = Recipe(epochs=1, batch_size=8, optimizer=Optimizer(name="adamw", lr=0.005))
    protocol = Protocol(title="test", source="test", task="segmentation", recipe=recipe, data=DATA)
    return TASK(TaskContext("shape-scenes@3", protocol, 0, torch.device("cpu"), artefacts=artefacts))


def networks(task, student_seed=0, frozen=True):
    """A student, and the same teacher each time."""
    torch.manual_seed(1)
    teacher = task.network("pspnet-r18w16")
    teacher.module.requires_grad_(not frozen)
    torch.manual_seed(student_seed)
    return {"student": task.network("pspnet-r18w8"), "teacher": teacher}


@pytest.fixture
def predicted(monkeypatch):
    """The widths of the networks that were asked for predictions of a batch, in order."""
    asked, predict = [], evaluation.predict_logits

    def watched(network, *arguments):
        asked.append(next(network.parameters()).shape[0])
        return predict(network, *arguments)

    monkeypatch.setattr(evaluation, "predict_logits", watched)
    return asked


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_frozen_teacher_is_evaluated_once_to_the_same_scores(tmp_path, predicted, split):
    plain = open_task(None)
    expected = [plain.evaluate(networks(plain, seed), split) for seed in (0, 5)]
    first = open_task(tmp_path)
    assert first.evaluate(networks(first), split) == expected[0]
    student, teacher = set(predicted)
    predicted.clear()
    assert first.evaluate(networks(first), split) == expected[0]
    another = open_task(tmp_path)  # another cell: its student is compared with the maps that were kept
    assert another.evaluate(networks(another, 5), split) == expected[1]
    assert len(set(predicted)) == 1 and set(predicted) < {student, teacher}
    assert expected[0]["student"]["agreement"] != expected[1]["student"]["agreement"]
    assert expected[0]["teacher"] == expected[1]["teacher"]


def test_a_teacher_that_trains_is_evaluated_each_time(tmp_path, predicted):
    task = open_task(tmp_path)
    pair = networks(task, frozen=False)
    before = task.evaluate(pair, "test")
    with torch.no_grad():
        for weight in pair["teacher"].module.parameters():
            weight.mul_(0.5)
    assert task.evaluate(pair, "test")["teacher"] != before["teacher"]
    assert len(set(predicted)) == 2 and not (tmp_path / "scores").exists()


def test_maps_of_all_sizes_come_back_and_more_than_there_are_is_an_error():
    torch.manual_seed(0)
    maps = [torch.randint(0, 256, shape) for shape in ((2, 5, 7), (1, 300, 400), (3, 1, 1))]
    writer = MapWriter()
    for each in maps:
        writer.add(each)
    reader = MapReader(writer.packed())
    for each in maps:
        assert torch.equal(reader.next(each.shape).long(), each)
    with pytest.raises(AdmError, match="end before the split does"):
        reader.next(maps[0].shape)


def test_maps_of_areas_take_little():
    writer = MapWriter()
    areas = torch.arange(16).view(1, 4, 4).repeat_interleave(64, 1).repeat_interleave(64, 2)
    for _ in range(10):
        writer.add(areas)
    assert len(writer.packed()) < 10 * areas.numel() / 50
