"""Every task folder offers what the rest asks of it, and tells without torch what plans need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adm_core.errors import AdmError
from adm_core.recipe import Optimizer, Protocol, Recipe
from adm_core.task import Task, TaskContext
from tasks import catalogue, listed_taps
from tasks.classification.task import ClassificationTask
from tasks.datasets.splits import SplitSettings

ROOT = Path(__file__).resolve().parents[1]
RECIPE = Recipe(epochs=1, batch_size=8, optimizer=Optimizer(lr=0.1))
REQUIRED = {"segmentation": {"crop": [8, 8]}, "diffusion": {"sampling": {"steps": 10, "samples": 65}}}
TOLD_EARLY = """
import sys
from tasks import catalogue, listed_taps
for task in catalogue.tasks():
    assert catalogue.networks(task) and catalogue.benchmarks(task) and catalogue.offer(task)
print("torch" in sys.modules)
"""


@pytest.mark.parametrize("task", catalogue.tasks())
def test_every_task_fills_in_both_interfaces(task: str) -> None:
    assert issubclass(catalogue.task_class(task), Task)
    for name, entry in catalogue.networks(task).items():
        assert entry["name"] == name and entry["taps"] and entry["source"]
    with pytest.raises(AdmError, match=r"here: unknown key 'data\.train_limits'; did you mean data\.train_limit"):
        catalogue.check_data(task, {"train_limits": 3, **REQUIRED.get(task, {})}, "here")
    offered = catalogue.offered(task, catalogue.check_data(task, REQUIRED.get(task, {}), "here"), None)
    assert offered.prediction == catalogue.task_class(task).kind


def test_all_tasks_are_told_without_torch() -> None:
    given = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", TOLD_EARLY], capture_output=True, text=True, env=given, timeout=120)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


@pytest.mark.parametrize("task", catalogue.tasks())
def test_a_benchmark_that_a_task_has_not_is_refused_by_name(task: str) -> None:
    protocol = Protocol(title="t", source="tests", task=task, recipe=RECIPE)
    with pytest.raises(AdmError, match="unknown benchmark 'moon@1'"):
        catalogue.task_class(task)(TaskContext("moon@1", protocol, 0, torch.device("cpu")))


def test_an_auxiliary_tap_is_a_reason_to_skip_where_a_network_lacks_it_and_a_mistake_where_all_do() -> None:
    known = catalogue.networks("segmentation")
    assert "auxiliary1" in known["pspnet-r18"]["taps"] and "auxiliary1" not in known["segformer-b0"]["taps"]
    listed_taps.check_taps("segmentation", "segformer-b0", ["auxiliary1"], "here")
    assert listed_taps.why_untapped("segmentation", "segformer-b0", ["auxiliary1"]) is not None
    for task, name, tap in (
        ("segmentation", "segformer-b0", "auxiliary7"),
        ("classification", "resnet20", "auxiliary1"),
    ):
        with pytest.raises(AdmError, match=f"here: network '{name}': unknown tap '{tap}'"):
            listed_taps.check_taps(task, name, [tap], "here")


@pytest.mark.parametrize(("task", "names"), [("classification", ["resnet20", "mobilenetv2", "shufflenetv2", "vgg8"]),
                                            ("diffusion", ["unet-w8", "unet3-w16-tiny"])])  # fmt: skip
def test_the_taps_of_listed_networks_are_told_before_they_are_built(task: str, names: list[str]) -> None:
    protocol = Protocol(title="t", source="tests", task=task, recipe=RECIPE, data=REQUIRED.get(task, {}))
    benchmark = {"classification": "digit-scenes@1", "diffusion": "digits@2"}[task]
    opened = catalogue.task_class(task)(TaskContext(benchmark, protocol, 0, torch.device("cpu")))
    for name in names:
        network = opened.network(name)
        for tap in ("last", "hint", "all-stages", "all-stages.preact", "penultimate", "noise", "down1", "mid"):
            has = all(network.own_tap(each) in network.taps for each in network.expand([tap]))
            assert (listed_taps.why_untapped(task, name, [tap]) is None) == has, (name, tap)


def test_a_task_that_lacks_a_member_cannot_be_opened() -> None:
    class Half(Task):
        def __init__(self, context: TaskContext) -> None:
            self.benchmark = context.benchmark

    protocol = Protocol(title="t", source="tests", task="classification", recipe=RECIPE)
    with pytest.raises(TypeError, match="evaluate"):
        Half(TaskContext("x@1", protocol, 0, torch.device("cpu")))  # type: ignore[abstract]


def test_what_a_task_may_leave_out_says_so(tmp_path: Path) -> None:
    class Plain(ClassificationTask):
        object_examples, data_digest = Task.object_examples, Task.data_digest

    data = {"train_limit": 16, "test_limit": 8}
    protocol = Protocol(title="t", source="tests", task="classification", recipe=RECIPE, data=data)
    task = Plain(TaskContext("digit-scenes@1", protocol, 0, torch.device("cpu")))
    assert isinstance(task.settings, SplitSettings) and task.data_digest() is None and dict(task.costs) == {}
    task.export(task.network("resnet8w8s2"), tmp_path / "student")
    assert not (tmp_path / "student").exists()
    with pytest.raises(AdmError, match="benchmark 'digit-scenes@1' has no object masks"):
        task.object_examples(1)
