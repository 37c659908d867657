"""A run that is stopped in the middle and taken up again, against the same run without a stop."""

import pytest
import torch

from adm_core.recipe import Recipe
from tests.core.toy import ToyTask, trainer, weights


class Stop(Exception):
    """The run ends here."""


class StoppingTask(ToyTask):
    """The toy task, which stops at one step."""

    def __init__(self, stop_at, **kwargs):
        super().__init__(**kwargs)
        self.stop_at = stop_at

    def batches(self, epoch, start):
        for batch in super().batches(epoch, start):
            if (epoch, self.seen[-1][1]) == self.stop_at:
                raise Stop
            yield batch


def recipe(epochs=3, **changes):
    return Recipe.model_validate(
        {"epochs": epochs, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}} | changes
    )


def whole_and_resumed(folder, monkeypatch, method, regime, settings=None, dropout=0.0, **changes):
    """A run to its end, and one that was stopped in its second epoch and resumed, with other weights meanwhile."""
    monkeypatch.setattr("adm_core.train.CHECK_EVERY", 2)
    common = {"method": method, "regime": regime, "settings": settings, "dropout": dropout}
    whole = trainer(recipe(**changes), **common)
    expected = whole.run()
    options = {"checkpoint_file": folder / "c.pt", "checkpoint_seconds": 0.0} | common
    with pytest.raises(Stop):
        trainer(recipe(**changes), task=StoppingTask((1, 3)), **options).run()
    again = trainer(recipe(**changes), **options)
    with torch.no_grad():
        for parameter in again.distiller.parameters():
            parameter.mul_(0.5)
    result = again.run()
    assert again.task.seen[0] > (0, 0)
    ours, theirs = weights(whole), weights(again)
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
    assert expected.curves == result.curves
    return whole, expected
