"""The loop is a step that a caller drives: several trainers on one stream of batches."""

import torch

from adm_core.recipe import Recipe
from tests.core.toy import ToyTask, trainer, weights


def test_two_trainers_on_one_stream_end_where_each_ends_alone():
    recipe = Recipe.model_validate({
        "epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}, "ema": 0.9,
        "selection": "best-validation",
    })  # fmt: skip
    methods = (("kd+fitnet", "offline"), ("dml+adm", "online"))
    expected = [trainer(recipe, method, regime).run() for method, regime in methods]
    driven = [trainer(recipe, method, regime) for method, regime in methods]
    before = [weights(each) for each in driven]

    stream = ToyTask()
    for each in driven:
        each.resume()
    for epoch in range(recipe.epochs):
        for each in driven:
            each.distiller.train()
        for batch in stream.batches(epoch, 0):
            for each in driven:
                each.step(batch)
        for each in driven:
            each.end_epoch(epoch + 1)
    assert all(each.done for each in driven)
    assert len(stream.seen) == recipe.epochs * stream.steps_per_epoch  # one stream, each batch drawn once

    for alone, each, start in zip(expected, driven, before, strict=True):
        trained = each.trained()
        assert (trained.steps, trained.epoch, trained.curves) == (alone.steps, alone.epoch, alone.curves)
        assert set(trained.networks) == set(alone.networks)
        for role, network in alone.networks.items():
            ours = trained.networks[role].module.state_dict()
            assert all(torch.equal(value, ours[key]) for key, value in network.module.state_dict().items()), role
        assert any(not torch.equal(value, start[key]) for key, value in weights(each).items())
