"""Networks that train as equals are scored one by one, and together as the mean of their softmax outputs."""

from __future__ import annotations

from pathlib import Path

import torch

from adm_core import registry
from adm_core.distiller import Distiller
from adm_core.recipe import Protocol
from adm_core.task import TaskContext
from adm_core.train import Trainer
from tasks.classification import metrics
from tasks.classification.task import ClassificationTask

RECIPE = {"epochs": 2, "batch_size": 32, "optimizer": {"name": "sgd", "lr": 0.1}}
DATA = {"validation": 0.25, "train_limit": 96, "test_limit": 64}


def open_task(artefacts: Path | None = None) -> ClassificationTask:
    given = {"title": "t", "source": "t", "task": "classification", "recipe": RECIPE, "data": DATA}
    protocol = Protocol.model_validate(given)
    return ClassificationTask(TaskContext("digit-scenes@1", protocol, 0, torch.device("cpu"), artefacts=artefacts))


def test_the_ensemble_of_peers_is_the_mean_of_their_probabilities() -> None:
    task = open_task()
    networks = {role: task.network("resnet8w8s2") for role in ("student", "peer1", "peer2")}
    logits, labels = task._predict(networks, task.test)
    probabilities = sum(logits[role].double().softmax(1) for role in networks) / 3
    assert torch.allclose(logits["ensemble"].double().exp(), probabilities, atol=1e-6)
    scores = task.evaluate(networks, "test")
    assert list(scores) == ["student", "peer1", "peer2", "ensemble"]
    right = probabilities.argmax(1) == labels
    assert scores["ensemble"]["top1"] == 100 * float(right.double().mean())
    assert scores["ensemble"]["nll"] <= max(scores[role]["nll"] for role in networks)
    assert scores["ensemble"]["ece_ts"] is not None


def test_a_frozen_average_that_was_judged_before_is_in_the_ensemble_all_the_same(tmp_path: Path) -> None:
    task = open_task(tmp_path)
    networks = {role: task.network("resnet8w8s2") for role in ("student", "peer1")}
    networks["student"].module.requires_grad_(False)
    first = task.evaluate(networks, "test")
    assert task.evaluate(networks, "test") == first and "ensemble" in first


def test_an_ensemble_of_one_is_itself_and_a_pair_has_none() -> None:
    logits = torch.randn(5, 10, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(metrics.ensemble([logits]), logits.log_softmax(1))
    task = open_task()
    pair = {"student": task.network("resnet8w8s2"), "teacher": task.network("resnet8w8s2")}
    assert set(task.evaluate(pair, "test")) == {"student", "teacher"}


def test_the_branches_of_a_trained_student_are_scored_as_well() -> None:
    task, method = open_task(), registry.create("one", {})
    networks = {role: task.network("resnet8w8s2") for role in ("student", "branch2", "branch3")}
    distiller = Distiller(networks, method, "peers", task.task_loss, task.kind, task.example(), task.facts())
    recipe = Protocol.model_validate(
        {"title": "t", "source": "t", "task": "classification", "recipe": RECIPE | {"selection": "best-validation"}}
    ).recipe
    trainer = Trainer(distiller, task, recipe, 0)
    trained = trainer.run()
    assert list(task.evaluate(trained.networks, "test")) == ["student", "branch2", "branch3", "ensemble"]
    assert len(trained.curves["validation.ensemble.top1"]) == 2
    with torch.no_grad():  # what came after the best epoch
        for weight in distiller.parameters():
            weight.add_(1.0)
    best = trainer.trained().networks
    for role in ("student", "branch2", "branch3"):
        kept = trainer.best_state[role]
        assert all(torch.equal(value, kept[name]) for name, value in best[role].module.state_dict().items())
