"""Under bf16 the networks that a method runs itself take part, while losses stay float32."""

import math

import pytest
import torch
from torch import nn

from adm_core import registry
from adm_core.critic import SpectralConv
from adm_core.distiller import Distiller
from adm_core.method import Losses, Method, MethodCard, Needs
from adm_core.recipe import Optimizer, Recipe
from adm_core.testing.checks import FORMS, setup_that_suits
from adm_core.testing.networks import EXAMPLES, task_loss, tiny_facts, tiny_network
from adm_core.testing.setup import Setup
from tests.core.toy import NoisyTask, denoising_trainer, trainer, weights

BF16 = Recipe(epochs=2, batch_size=16, precision="bf16", optimizer=Optimizer(lr=0.05))
LEAVES = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def setups(name):
    """The method on one form of each regime that it runs on, where it has parts."""
    for regime in sorted(registry.get(name).card.regimes):
        tried = (setup_that_suits(name, regime, {}, form) for form in FORMS)
        found = [setup for setup in tried if isinstance(setup, Setup)][:1]
        yield from (setup for setup in found if any(isinstance(m, LEAVES) for m in setup.distiller.parts.modules()))


def watched(parts):
    """Filled, as parts run, with the dtype of what each of their layers makes."""
    seen = {}

    def watch(name):
        return lambda module, inputs, made: seen.setdefault(name, set()).add(made.dtype)

    for name, module in parts.named_modules():
        if isinstance(module, LEAVES):
            module.register_forward_hook(watch(name), prepend=True)  # before a part's output is made float32
    return seen


@pytest.mark.parametrize("name", registry.names())
def test_every_layer_of_every_part_runs_in_low_precision_and_every_term_is_float32(name):
    for setup in setups(name):
        plain = setup.outcome(0)
        assert {term.dtype for term in plain.terms.values()} == {torch.float32}
        setup = setup.twin()
        seen = watched(setup.distiller.parts)
        with torch.autocast("cpu", torch.bfloat16):
            outcome = setup.outcome(0)
        assert set().union(*seen.values()) <= {torch.bfloat16}, seen
        assert {term.dtype for term in outcome.terms.values()} == {torch.float32}
        outcome.total.backward()
        phase = setup.method.needs.phases
        trained = [p for p in setup.distiller.parts.parameters() if p.requires_grad]
        assert phase or not trained or any(p.grad is not None and p.grad.isfinite().all() for p in trained)


def test_in_fp32_parts_are_float32():
    setup = Setup("fitnet", "offline", {})
    seen = watched(setup.distiller.parts)
    setup.loss(0)
    assert seen and set().union(*seen.values()) == {torch.float32}


@pytest.mark.parametrize("method", ["mgd", "fitnet", "kd+fitnet"])
def test_a_bf16_run_trains_student_and_parts(method):
    made = trainer(BF16, method, "offline")
    before = weights(made)
    made.run()
    after = weights(made)
    assert all(value.isfinite().all() for value in after.values() if value.is_floating_point())
    moved = [name for name in after if name.startswith("parts.") and not torch.equal(after[name], before[name])]
    assert moved and not torch.equal(after["student.head.weight"], before["student.head.weight"])


def test_a_bf16_run_of_rounds_asks_the_earlier_round_in_low_precision():
    recipe = Recipe(epochs=2, batch_size=EXAMPLES, precision="bf16", optimizer=Optimizer(lr=0.05))
    made = denoising_trainer(recipe, "progressive", NoisyTask(3))
    before, seen = weights(made), watched(made.distiller.parts)
    trained = made.run()
    assert seen and set().union(*seen.values()) == {torch.bfloat16}
    assert all(math.isfinite(value) for value in trained.curves["train.student.two_steps"])
    assert any(not torch.equal(value, before[name]) for name, value in weights(made).items() if "student" in name)


class Twice(Method):
    """A plug-in that runs its part first without gradients, then with, and hands its output on."""

    card = MethodCard("twice", "Twice", "none", 2026, frozenset({"offline"}), "features")
    needs = Needs(taps=("last",), capabilities=frozenset({"trainable-parts"}))

    def build(self, student, teacher, facts):
        class Pair(nn.Module):
            def __init__(self, width):
                super().__init__()
                self.first, self.second = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)

            def forward(self, x):
                return {"maps": [self.second(self.first(x))], "index": torch.arange(2)}

        return {"pairs": nn.ModuleList([Pair(student["last"][1])])}

    def losses(self, student, teacher, step):
        part, maps = self.parts["pairs"][0], student.features["last"]
        with torch.no_grad():
            part(maps)
        made = part(maps)
        assert made["maps"][0].dtype == torch.float32 and made["index"].dtype == torch.int64
        assert not torch.is_autocast_enabled("cpu")
        assert maps.dtype == (maps @ maps).dtype == torch.float32
        return Losses(student={"twice": made["maps"][0].pow(2).mean()})


@pytest.fixture
def twice(monkeypatch):
    """The plug-in set up."""
    monkeypatch.setattr("adm_core.registry.create", lambda spec, settings=None: Twice())
    return Setup("twice", "offline", {})


def test_a_plug_in_gets_it_by_construction_with_every_gradient(twice):
    seen = watched(twice.distiller.parts)
    with torch.autocast("cpu", torch.bfloat16):
        twice.loss(0).backward()
    assert len(seen) == 2 and set().union(*seen.values()) == {torch.bfloat16}
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in twice.distiller.parts.parameters())


def test_a_part_that_fails_leaves_autocast_as_it_was(twice, monkeypatch):
    monkeypatch.setattr(twice.distiller.parts["pairs"][0].second, "forward", lambda x: 1 / 0)
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(ZeroDivisionError):
            twice.loss(0)
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16 and torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")


def test_a_spectral_norm_is_taken_in_float32():
    torch.manual_seed(0)
    layer, x = SpectralConv(6, 8), torch.randn(2, 6, 8, 8)
    exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        low = layer(x)
    left, right = layer._iterate()
    weight = layer.weight / (left @ (layer.weight.flatten(1) @ right))
    bias, *how = layer.bias, layer.stride, layer.padding
    assert torch.equal(exact, torch.conv2d(x, weight, bias, *how))
    assert torch.equal(low, torch.conv2d(x.bfloat16(), weight.bfloat16(), bias.bfloat16(), *how))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_convolutions_of_a_method_have_the_layout_of_the_maps_that_they_meet(layout):
    networks = {"student": tiny_network(8), "teacher": tiny_network(12, 1)}
    for network in networks.values():
        network.module.to(memory_format=layout)
    example = torch.zeros(2, 3, 16, 16).contiguous(memory_format=layout)
    made = Distiller(networks, registry.create("mgd"), "offline", task_loss, "class_logits", (example,), tiny_facts())
    kernels = [p for p in made.parts.parameters() if p.dim() == 4 and p.shape[2] > 1]
    assert kernels and all(p.is_contiguous(memory_format=layout) for p in kernels)
