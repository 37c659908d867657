"""fp16 with clipping and an optimiser of a part's own: each is unscaled once, stepped once, the scale updated once."""

import torch
from torch.amp import GradScaler

from adm_core import registry
from adm_core.distiller import Distiller
from adm_core.recipe import Recipe
from adm_core.testing.networks import EXAMPLES, task_loss, tiny_batch, tiny_facts, tiny_network
from adm_core.train import Trainer


class PixelTask:
    """Random pixels, one batch an epoch."""

    steps_per_epoch, has_validation, task_loss = 1, False, staticmethod(task_loss)


def with_critic():
    """A trainer of SKD, whose critic has an optimiser of its own."""
    torch.manual_seed(0)
    networks = {role: tiny_network(8, seed, "pixels") for seed, role in enumerate(("student", "teacher"))}
    distiller = Distiller(
        networks, registry.create("skd"), "offline", task_loss, "class_logits", (tiny_batch().student_input,),
        tiny_facts("pixels"),
    )  # fmt: skip
    optimizer = {"name": "sgd", "lr": 0.05}
    recipe = Recipe.model_validate(
        {"epochs": 4, "batch_size": EXAMPLES, "optimizer": optimizer, "clip_norm": 0.5, "accumulate": 2}
    )
    return Trainer(distiller, PixelTask(), recipe, 0)


def test_scaled_gradients_of_two_optimisers_give_the_weights_of_plain_ones(monkeypatch):
    calls = []
    for name in ("unscale_", "step", "update"):
        original = getattr(GradScaler, name)

        def counted(self, *args, name=name, original=original):
            calls.append((name, *map(id, args)))
            return original(self, *args)

        monkeypatch.setattr(GradScaler, name, counted)
    plain, scaled = with_critic(), with_critic()
    scaled.scaler = GradScaler("cpu", init_scale=2.0**10)  # a power of two, so that scaling rounds nothing
    for step in range(3):
        for each in (plain, scaled):
            each.step(tiny_batch(step, form="pixels"))
    first, second = map(id, scaled.optimizers)
    once = [("unscale_", first), ("unscale_", second), ("step", first), ("step", second), ("update",)]
    assert calls == once * 3
    for key, value in plain.distiller.state_dict().items():
        assert torch.allclose(value, scaled.distiller.state_dict()[key], rtol=1e-5, atol=1e-6), key


def test_a_gradient_that_overflows_moves_no_weight_and_lowers_the_scale():
    scaled = with_critic()
    scaled.scaler = GradScaler("cpu", init_scale=2.0**127)
    before = {key: value.clone() for key, value in scaled.distiller.named_parameters()}
    scaled.step(tiny_batch(0, form="pixels"))
    assert scaled.scaler.get_scale() == 2.0**126
    assert all(
        torch.equal(value, before[key]) for key, value in scaled.distiller.student.named_parameters(prefix="student")
    )
