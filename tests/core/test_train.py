"""The training loop on a tiny real task: it learns, resumes exactly, and stops with a reason."""

import functools
import io
import resource
import subprocess
import sys
import zipfile
from math import nan

import pytest
import torch

from adm_core import checkpoint, registry
from adm_core.distiller import Distiller
from adm_core.errors import AdmError, Diverged, Stopped
from adm_core.method import Losses, Method, MethodCard
from adm_core.recipe import Recipe
from adm_core.registry import register
from adm_core.task import Task
from adm_core.testing.networks import task_loss, tiny_batch, tiny_facts, tiny_network
from adm_core.train import Trainer
from tests.core.resuming import Stop, StoppingTask
from tests.core.toy import ToyTask, trainer, weights

SGD = {"name": "sgd", "lr": 0.05}


def recipe(**changes):
    return Recipe.model_validate({"epochs": 3, "batch_size": 16, "optimizer": SGD} | changes)


@pytest.mark.parametrize("regime", ["alone", "online"])
def test_it_learns(regime):
    trained = trainer(recipe(epochs=6), "none" if regime == "alone" else "dml", regime).run()
    scores = trained.curves["validation.student.top1"]
    losses = trained.curves["train.student.task"]
    assert scores[-1] > 60 and losses[-1] < losses[0]


RECIPES = {
    "sgd": {},
    "adamw": {"optimizer": {"name": "adamw", "lr": 0.01}, "schedule": {"name": "onecycle", "warmup": 1}},
    "ema-clip": {"ema": 0.9, "clip_norm": 1.0},
    "best-accumulate": {"selection": "best-validation", "accumulate": 2},
    "bf16": {"precision": "bf16"},
}


@functools.cache
def unbroken(name):
    """The trainer and the result of a run that nothing stops, to hold several resumed ones against."""
    whole = trainer(recipe(**RECIPES[name]))
    return whole, whole.run()


@pytest.mark.parametrize("stop_at", [(0, 4), (2, 1)])
@pytest.mark.parametrize("name", RECIPES)
def test_a_resumed_run_ends_in_the_same_weights(tmp_path, monkeypatch, name, stop_at):
    monkeypatch.setattr("adm_core.train.CHECK_EVERY", 2)
    changes, (whole, expected) = RECIPES[name], unbroken(name)
    options = {"checkpoint_file": tmp_path / "c.pt", "checkpoint_seconds": 0.0}
    with pytest.raises(Stop):
        trainer(recipe(**changes), task=StoppingTask(stop_at), **options).run()
    again = trainer(recipe(**changes), seed=0, **options)
    with torch.no_grad():
        for p in again.distiller.parameters():
            p.mul_(0.5)
    result = again.run()
    assert again.task.seen[0] > (0, 0)
    for key, value in weights(whole).items():
        assert torch.equal(value, weights(again)[key]), key
    for role in ("student", "teacher"):
        ours, theirs = (t.networks[role].module.state_dict() for t in (expected, result))
        assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert expected.curves == result.curves


def saves(monkeypatch, *arguments, checkpoint_seconds, save_takes=0.0, **options):
    """At which steps a run keeps checkpoints, when each step takes a second."""
    clock, kept, write = [0.0], [], checkpoint.save
    monkeypatch.setattr(
        "adm_core.train.checkpoint.save",
        lambda *given: (write(*given), clock.__setitem__(0, clock[0] + save_takes)),
    )
    monkeypatch.setattr("adm_core.pace.time.monotonic", lambda: clock[0])
    made = trainer(*arguments, checkpoint_seconds=checkpoint_seconds, **options)
    step, save = made.step, made.save
    monkeypatch.setattr(made, "step", lambda batch: (step(batch), clock.__setitem__(0, clock[0] + 1.0)))
    monkeypatch.setattr(made, "save", lambda: (kept.append(made.progress.step), save()))
    made.run()
    return kept


@pytest.mark.parametrize("steps_per_epoch", [1, 3, 30])
def test_checkpoints_are_kept_by_time_whatever_the_length_of_an_epoch(tmp_path, monkeypatch, steps_per_epoch):
    """At most ``checkpoint_seconds`` and one step are lost; and an epoch that ends in between keeps none."""
    task, whole = ToyTask(steps_per_epoch=steps_per_epoch), recipe(epochs=30 // steps_per_epoch)
    file = tmp_path / "c.pt"
    assert saves(monkeypatch, whole, task=task, checkpoint_file=file, checkpoint_seconds=7.0) == [7, 14, 21, 28]
    assert saves(monkeypatch, whole, task=task, checkpoint_file=tmp_path / "d.pt", checkpoint_seconds=99.0) == []
    assert not (tmp_path / "d.pt").exists()


def test_checkpoints_that_take_long_are_kept_less_often(tmp_path, monkeypatch):
    """After the first, whose time nobody knows before, they take 2 % at most, whatever their size."""
    given = {"task": ToyTask(steps_per_epoch=50), "checkpoint_file": tmp_path / "c.pt", "checkpoint_seconds": 7.0}
    assert saves(monkeypatch, recipe(epochs=1), save_takes=0.1, **given) == [7, 14, 21, 28, 35, 42, 49]
    (tmp_path / "c.pt").unlink()
    assert saves(monkeypatch, recipe(epochs=1), save_takes=0.25, **given) == [7, 20, 33, 46]
    (tmp_path / "c.pt").unlink()
    assert saves(monkeypatch, recipe(epochs=1), save_takes=0.8, **given) == [7, 47]


@pytest.mark.parametrize("selection", ["last", "best-validation"])
def test_a_frozen_teacher_is_in_no_checkpoint(tmp_path, selection):
    made = trainer(
        recipe(selection=selection), "kd", "offline", checkpoint_file=tmp_path / "c.pt", checkpoint_seconds=0.0
    )
    trained = made.run()
    state = checkpoint.load(tmp_path / "c.pt")
    assert state is not None and not any(key.startswith("teacher") for key in state["distiller"])
    assert set(state["best"] or {"student": {}}) == {"student"} and set(trained.networks) == {"student", "teacher"}
    assert not made.distiller.teacher.training and not any(p.requires_grad for p in made.distiller.teacher.parameters())


def test_a_checkpoint_of_other_code_is_not_gone_on_from(tmp_path, capsys):
    def make(code, **more):
        options = {"checkpoint_file": tmp_path / "c.pt", "checkpoint_seconds": 0.0, "code": code}
        return trainer(recipe(), "kd", "offline", **options, **more)

    core, old = {"adm_core": "0" * 64}, {"method kd": "1" * 64}
    with pytest.raises(Stop):
        make(core | old, task=StoppingTask((1, 3))).run()
    other = make(core | {"method kd": "2" * 64})
    whole = trainer(recipe(), "kd", "offline").run()
    assert other.run().curves == whole.curves and other.task.seen[0] == (0, 0)
    assert other.remark == "started over: the checkpoint is of other code (method kd)"
    assert capsys.readouterr().err.strip() == other.remark


def test_a_checkpoint_that_does_not_tell_its_code_is_not_gone_on_from_where_code_is_known(tmp_path):
    options = {"checkpoint_file": tmp_path / "c.pt", "checkpoint_seconds": 0.0}
    with pytest.raises(Stop):
        trainer(recipe(), "kd", "offline", task=StoppingTask((1, 3)), **options).run()
    state = checkpoint.load(tmp_path / "c.pt")
    del state["code"]
    checkpoint.save(tmp_path / "c.pt", state)
    again = trainer(recipe(), "kd", "offline", code={"adm_core": "0" * 64}, **options)
    again.resume()
    assert again.remark == "started over: the checkpoint is of other code (adm_core)" and again.progress.step == 0


def test_a_stop_between_the_last_step_of_an_epoch_and_its_end_loses_no_evaluation(tmp_path):
    class Killed(ToyTask):
        def evaluate(self, networks, split):
            raise Stop

    options = {"checkpoint_file": tmp_path / "c.pt", "checkpoint_seconds": 0.0}
    with pytest.raises(Stop):
        trainer(recipe(), task=Killed(), **options).run()
    again = trainer(recipe(), **options)
    assert again.run().curves == trainer(recipe()).run().curves
    assert again.task.seen[0] == (1, 0)  # the first epoch's steps are not taken again


def test_who_is_asked_to_stop_keeps_a_checkpoint_of_the_last_step(tmp_path):
    asked = []
    options = {"checkpoint_file": tmp_path / "c.pt", "checkpoint_seconds": 1e9}
    made = trainer(recipe(), asked_to_stop=lambda: len(asked) == 8 or bool(asked.append(1)), **options)
    with pytest.raises(Stopped, match="stopped in epoch 2 of 3, with a checkpoint"):
        made.run()
    again, whole = trainer(recipe(), **options), trainer(recipe())
    assert again.run().curves == whole.run().curves and again.task.seen[0] == (1, 3)
    assert all(torch.equal(value, weights(again)[key]) for key, value in weights(whole).items())


def test_batch_of_accumulated_parts_is_the_whole_batch():
    """Without batch normalisation in the way, gradients of parts add up to the gradient of the whole."""
    results = []
    for parts in (1, 4):
        t = trainer(recipe(accumulate=parts, epochs=1), "none", "alone")
        for m in t.distiller.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.eval()
                m.train = lambda mode=True, m=m: m  # keep fixed statistics
        t.run()
        results.append(weights(t))
    assert all(torch.allclose(results[0][k].float(), results[1][k].float(), atol=1e-5) for k in results[0])


class VoidTask:
    """One batch of images whose pixels are void in part, in one image all of them."""

    kind, has_validation, steps_per_epoch = "class_logits", False, 1
    batch = tiny_batch(form="pixels")
    task_loss, shares = staticmethod(task_loss), Task.shares

    def batches(self, epoch, start):
        yield self.batch


@pytest.mark.parametrize("method", ["none", "kd"])
def test_case_07_parts_with_void_pixels_are_the_whole_batch(method):
    """huggingface/transformers#24725: what differs in valid pixels is no mean of means; auxiliary losses included."""
    task, trained, terms = VoidTask(), [], []
    examples = len(task.batch.index)
    for parts in (1, examples):
        pair = {role: tiny_network(8, seed, "pixels") for seed, role in enumerate(("student", "teacher"))}
        example = (task.batch.student_input,)
        made, facts = registry.create(method), tiny_facts("pixels")
        distiller = Distiller(pair, made, "offline", task.task_loss, task.kind, example, facts)
        for module in distiller.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
                module.train = lambda mode=True, m=module: m
        t = Trainer(distiller, task, recipe(accumulate=parts, epochs=1, batch_size=examples), 0)
        trained.append({name: p.detach().clone() for name, p in t.run().networks["student"].module.named_parameters()})
        terms.append({name: values[0] for name, values in t.progress.curves.items() if name.startswith("train.")})
    assert terms[1] == pytest.approx(terms[0], rel=1e-5) and any("auxiliary" in name for name in terms[0])
    for name, whole in trained[0].items():
        torch.testing.assert_close(trained[1][name], whole, atol=1e-6, rtol=1e-5)


def test_case_10_weights_that_are_nan_after_the_last_step_have_diverged():
    """fcdl94/MiB#18: the losses of every step are finite, the gradient of the last is not."""

    class RootOfZero(ToyTask):
        def task_loss(self, prediction, batch):
            zero = (0 * prediction).pow(2).sum(1)
            return zero.sqrt() if len(self.seen) == 4 else zero

    t = trainer(recipe(epochs=2), "none", "alone", RootOfZero(steps_per_epoch=2, has_validation=False))
    with pytest.raises(Diverged, match=r"^weights are not finite after epoch 2 of 2: \d+ of \d+ \(student\.[^\n]*$"):
        t.run()
    assert t.progress.curves["epoch"] == [1.0]


def test_student_and_teacher_are_clipped_apart_and_follow_their_own_settings():
    changed = {"networks": {"tiny8": {"lr": 0.01}}, "teacher": {"lr": 0.02, "weight_decay": 0.1}}
    t = trainer(recipe(**changed))
    groups = t.optimizers[0].param_groups
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(0.01, 0.0), (0.02, 0.1)]


def test_an_average_of_weights_is_what_is_evaluated():
    t = trainer(recipe(ema=0.5, epochs=1), "none", "alone", ToyTask(steps_per_epoch=1))
    start = weights(t)
    trained = t.run()
    for name, value in trained.networks["student"].module.named_parameters():
        assert torch.allclose(value, weights(t)[f"student.{name}"]) or not torch.equal(value, start[f"student.{name}"])
    t2 = trainer(recipe(ema=0.5, epochs=1), "none", "alone", ToyTask(steps_per_epoch=2))
    averaged = t2.run().networks["student"].module.head.weight
    assert not torch.equal(averaged, t2.distiller.student.head.weight)


def test_divergence_names_the_term_and_the_epoch():
    @register
    class Explodes(Method):
        card = MethodCard("explodes-late", "x", "x", 2026, frozenset({"online"}), "logits")

        def losses(self, student, teacher, step):
            scale = float("nan") if step.progress > 0.5 else 1.0
            return Losses(student={"boom": student.prediction.mean() * scale})

    with pytest.raises(Diverged, match=r"train.student.boom became nan in epoch 2 of 3"):
        trainer(recipe(), "explodes-late").run()


def test_a_term_without_gradient_stops_the_run():
    @register
    class Constant(Method):
        card = MethodCard("constant-term", "x", "x", 2026, frozenset({"online"}), "logits")

        def losses(self, student, teacher, step):
            return Losses(student={"nothing": student.prediction.detach().mean()})

    with pytest.raises(AdmError, match="'nothing' does not depend on any trainable weight"):
        trainer(recipe(), "constant-term").run()


def cut_off(content):
    return content[:1000]


def one_byte_changed(content):
    """Another last byte of the largest tensor, which leaves a number that looks like the others."""
    largest = max(zipfile.ZipFile(io.BytesIO(content)).infolist(), key=lambda part: part.file_size)
    place = content.index(largest.filename.encode()) + largest.file_size
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("spoil", [cut_off, one_byte_changed, lambda content: b"", lambda content: b"scribble" * 999])
def test_a_damaged_checkpoint_is_told_and_training_starts_over(tmp_path, spoil):
    file = tmp_path / "cell" / "checkpoint.pt"
    expected = trainer(recipe(), checkpoint_file=file, checkpoint_seconds=0.0)
    expected.run()
    file.write_bytes(spoil(file.read_bytes()))
    again = trainer(recipe(), checkpoint_file=file, checkpoint_seconds=0.0)
    with pytest.warns(UserWarning, match=r"cell/checkpoint.pt is truncated or damaged .*training starts over"):
        again.run()
    assert again.task.seen[0] == (0, 0)
    ours, theirs = weights(expected), weights(again)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_checkpoint_of_other_networks_is_refused(tmp_path):
    file = tmp_path / "checkpoint.pt"
    trainer(recipe(epochs=1), "none", "alone", checkpoint_file=file, checkpoint_seconds=0.0).run()
    with pytest.raises(AdmError, match="is of another run"):
        trainer(recipe(), "dml", checkpoint_file=file).run()


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path):
    file = tmp_path / "checkpoint.pt"
    checkpoint.save(file, {"a": torch.ones(3)})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(AdmError, match="could not be written"):
            checkpoint.save(file, {"a": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.equal(checkpoint.load(file)["a"], torch.ones(3))
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_fp16_on_a_cpu_is_refused():
    with pytest.raises(AdmError, match="fp16 needs a GPU"):
        trainer(recipe(precision="fp16"))


def test_best_on_validation_needs_a_validation_split():
    with pytest.raises(AdmError, match="needs a validation split"):
        trainer(recipe(selection="best-validation"), task=ToyTask(has_validation=False))


@pytest.mark.parametrize(("scores", "epoch"), [((1.0, 3.0, 2.0), 2), ((1.0, nan, nan), 1), ((nan, nan, nan), 3)])
def test_the_best_epoch_is_that_of_the_best_number_and_without_one_the_last(scores, epoch):
    class Scored(ToyTask):
        def evaluate(self, networks, split):
            seen.append([p.detach().clone() for p in networks["student"].module.parameters()])
            return {role: {"top1": scores[len(seen) - 1]} for role in networks}

    seen: list[list[torch.Tensor]] = []
    trained = trainer(recipe(epochs=3, selection="best-validation"), task=Scored()).run()
    assert trained.epoch == epoch
    left = trained.networks["student"].module.parameters()
    assert all(torch.equal(mine, then) for mine, then in zip(left, seen[epoch - 1], strict=True))


def train_for_killing(folder, name):
    """A training of some tenths of a second with a checkpoint at every third step; its weights."""
    recipe = Recipe.model_validate({"epochs": 12, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}})
    run = trainer(recipe, checkpoint_file=folder / f"{name}.pt", checkpoint_seconds=0.0)
    run.run()
    return run.distiller.state_dict()


KILLED = """
import os, pathlib, signal, sys, time
import torch, torch._dynamo
import adm_core.train
from tests.core.test_train import train_for_killing

adm_core.train.CHECK_EVERY = 3
folder = pathlib.Path(sys.argv[1])
for pause in (0.0, 0.13, 0.37):
    child = os.fork()
    if child == 0:
        train_for_killing(folder, "killed")
        os._exit(0)
    while not (folder / "killed.pt").exists():
        time.sleep(0.01)
    time.sleep(pause)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
torch.save(train_for_killing(folder, "killed"), folder / "killed")
"""
"""Forks, so that torch is loaded once for all that are killed."""


def test_sigkill_at_any_moment_leaves_a_run_that_resumes_to_the_same_weights(tmp_path, monkeypatch):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=True)
    monkeypatch.setattr("adm_core.train.CHECK_EVERY", 3)
    whole, killed = train_for_killing(tmp_path, "whole"), torch.load(tmp_path / "killed", weights_only=True)
    assert all(torch.equal(whole[k], killed[k]) for k in whole)
