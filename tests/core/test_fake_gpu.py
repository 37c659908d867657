"""A step on a GPU that is not there: what is made on the wrong device, or waits for it, is told with its line."""

import linecache

import pytest
import torch

from adm_core.errors import AdmError
from adm_core.method import Losses, Method, MethodCard, Needs
from adm_core.recipe import Recipe
from adm_core.seeds import StepGenerator
from adm_core.testing.checks import check_method
from adm_core.testing.fake_gpu import GPU, FakeGenerator, Watch, fake_tensors, move_distiller, moved, step_on_gpu
from adm_core.testing.setup import Setup
from adm_core.train import Trainer
from tests.core.toy import ToyTask, trainer

PROMISE = "a step on a GPU stays there and waits for nothing"
FILE = __file__


def made(losses, name="toy", **needs):
    """A method of image logits with given losses."""
    card = MethodCard(name, "Toy", "none", 2026, frozenset({"offline"}), "logits")
    supports = lambda self, s, t, r: None if len(s["prediction"]) == 2 else "written for images"  # noqa: E731
    return type("Toy", (Method,), {
        "card": card, "needs": Needs(prediction="class_logits", **needs), "losses": losses, "supports": supports,
        "__module__": __name__,
    })  # fmt: skip


@pytest.fixture
def told(monkeypatch):
    """What two steps of a method are refused for; an empty string where they pass."""

    def of(losses, **needs):
        toy = made(losses, **needs)
        monkeypatch.setattr("adm_core.registry.create", lambda spec, settings=None: toy())
        try:
            step_on_gpu(Setup("toy", "offline", {}), [0.5, 0.5])
        except AdmError as error:
            return str(error)
        return ""

    return of


def difference(student, teacher):
    return student.prediction - teacher.detached().prediction


def losses_with(spoil):
    """Losses that multiply the logits' difference by what ``spoil(difference, step)`` makes."""

    def losses(self, student, teacher, step):
        apart = difference(student, teacher)
        return Losses(student={"toy": (apart * spoil(apart, step)).pow(2).mean()})

    return losses


SPOILT = {
    "a matrix on the CPU": lambda d, step: torch.ones(d.shape[1]),
    "a constant copied": lambda d, step: torch.tensor([2.0], device=d.device),
    "a number copied": lambda d, step: torch.tensor(2.0, device=d.device),
    "new_tensor": lambda d, step: d.new_tensor(2.0),
    "indices on the CPU": lambda d, step: d[:, torch.triu_indices(4, 4, 1)[0]].mean(),
    "arange on the CPU": lambda d, step: d.gather(1, torch.arange(3).expand(len(d), 3).to(d.device)).mean(),
    "a list as index": lambda d, step: d[:, [0, 1]].mean(),
    "drawn on the CPU": lambda d, step: torch.rand(d.shape[1], generator=step.generator),
}
WAITING = {
    "item": lambda d, step: d.detach().mean().item(),
    "bool": lambda d, step: 2.0 if d.mean() > 0 else 1.0,
    "tolist": lambda d, step: max(d[0].detach().tolist()),
    "nonzero": lambda d, step: len(d.nonzero()),
    "mask": lambda d, step: d[d > 0].mean(),
    "a mask written to": lambda d, step: d.detach().index_put((d > 0,), d.mean()),
    "cpu": lambda d, step: d.detach().cpu().mean(),
    "equal": lambda d, step: 1.0 if torch.equal(d, d * 2) else 2.0,
    "unique": lambda d, step: len(step.target.unique()),
    "inverse": lambda d, step: torch.linalg.inv(d.T @ d + torch.eye(d.shape[1], device=d.device)).mean(),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_tensor_on_the_wrong_device_is_told_with_its_line(told, kind):
    detail = told(losses_with(SPOILT[kind]))
    line = SPOILT[kind].__code__.co_firstlineno
    assert f"core/test_fake_gpu.py:{line} `{linecache.getline(FILE, line).strip()}`" in detail
    assert "\n" not in detail and any(
        words in detail for words in ("on the CPU", "copies a number", "copies a list of numbers")
    )


@pytest.mark.parametrize("kind", WAITING)
def test_waiting_is_told_with_its_line_unless_it_is_declared(told, kind):
    detail = told(losses_with(WAITING[kind]))
    assert f"core/test_fake_gpu.py:{WAITING[kind].__code__.co_firstlineno} `" in detail
    assert "\n" not in detail and "waits for the device" in detail and "host-synchronisation" in detail
    if kind not in ("equal", "unique", "cpu"):
        assert told(losses_with(WAITING[kind]), capabilities=frozenset({"host-synchronisation"})) == ""


def test_what_a_gpu_can_do_alone_passes(told):
    def alone(d, step):
        chosen = torch.where(d > 0, d, 0.0).masked_fill(d > 1, 1.0)
        first = d.gather(1, step.target[:, None]) * torch.tensor(0.5) + d[torch.arange(3, device=d.device)].mean()
        noise = torch.rand(d.shape, generator=step.generator, device=step.generator.device)
        d.detach().clone()[d > 0] = 0.0
        return chosen + first + noise + d.new_full((), 2.0) + torch.linalg.vector_norm(d)

    assert told(losses_with(alone)) == ""


def test_what_is_done_after_a_step_is_watched_as_well(told, monkeypatch):
    toy = made(losses_with(lambda d, step: 1.0))
    toy.after_step = lambda self: torch.zeros(3, device=GPU).sum().item()
    monkeypatch.setattr("adm_core.registry.create", lambda spec, settings=None: toy())
    spoilt = [c.detail for c in check_method("toy") if c.name == PROMISE]
    assert "waits for the device" in spoilt[0]


class FakeStepGenerator(FakeGenerator, StepGenerator):
    """A step's randomness on the fake GPU."""


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_step_of_the_loop_waits_for_nothing(monkeypatch, precision, name):
    """With clipping and accumulation. Autocast casts nothing here, as torch's own code is told "meta" (`Watch`).

    Averages are left out: they copy weights deeply, which torch cannot do with fake tensors.
    """
    monkeypatch.setattr("torch.amp.autocast_mode.torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *_: True)
    recipe = Recipe.model_validate({
        "epochs": 1, "batch_size": 16, "optimizer": {"name": name, "lr": 0.05}, "precision": precision,
        "clip_norm": 1.0, "accumulate": 2,
    })  # fmt: skip
    plain = trainer(recipe.model_copy(update={"precision": "fp32"}), "dml", "online")
    batches = list(ToyTask(3).batches(0, 0))
    monkeypatch.setattr("adm_core.train.StepGenerator", lambda device: FakeStepGenerator())
    with fake_tensors():
        move_distiller(plain.distiller)
        on_gpu = Trainer(plain.distiller, plain.task, recipe, 0)
        batches = [moved(batch) for batch in batches]
        with Watch(frozenset(), may_wait=False):
            for batch in batches:
                on_gpu.step(batch)
    assert on_gpu.progress.step == 3 and (on_gpu.scaler is not None) == (precision == "fp16")
