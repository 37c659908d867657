"""Students trained in lockstep end where each ends alone, to the bit, whatever becomes of the others."""

from __future__ import annotations

import dataclasses
import gc
import sys
import weakref

import pytest
import torch

from adm_core import checkpoint, registry
from adm_core.distiller import Distiller
from adm_core.errors import AdmError, Diverged, Stopped, Unsupported
from adm_core.lockstep import Lockstep
from adm_core.method import Losses
from adm_core.recipe import Recipe
from adm_core.seeds import derive
from adm_core.shared_teacher import SharedTeacher, share_teachers
from adm_core.testing.networks import tiny_batch, tiny_facts, tiny_network
from adm_core.train import Trainer
from tests.core.toy import NoisyTask, ToyTask, trainer, weights

STEPS = 4
FAMILIES = (
    "none", "kd", "at", "crd", "ofd", "simkd", "ab", "adm", "dkd+fitnet", "wkd-l", "dot+kd", "ema-teacher",
)  # fmt: skip
"""Methods of every kind: without a teacher, with taps, heads, memories, phases, parts, statistics, averages, copies."""
FEW = ("kd", "crd", "ab")


def recipe(epochs=2, **changes):
    sgd = {"name": "sgd", "lr": 0.05}
    return Recipe.model_validate({"epochs": epochs, "batch_size": 16, "optimizer": sgd} | changes)


def make(method, whole=None, task=None, **options):
    return trainer(whole or recipe(), method, "offline", task=task or ToyTask(STEPS), **options)


def group(methods, **options):
    """Trainers of one teacher and one task, as a worker makes them."""
    task = options.pop("task", None) or ToyTask(STEPS)
    folder = options.pop("folder", None)
    made = {}
    for name in methods:
        kept = {} if folder is None else {"checkpoint_file": folder / f"{name}.pt"}
        made[name] = make(name, task=task, **kept, **options)
    for each in made.values():
        each.distiller.__dict__["teacher"] = made[methods[0]].distiller.teacher
    return made


def alone(method, **options):
    made = make(method, **options)
    made.run()
    return made


def refuse(name, error):
    raise AssertionError(f"'{name}' failed") from error


def assert_same(one, other):
    """Weights, curves and what is evaluated are equal, bit by bit."""
    first, second = one.trained(), other.trained()  # which loads the selected weights
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert (first.curves, first.steps, first.epoch) == (second.curves, second.steps, second.epoch)
    for role, network in first.networks.items():
        there = second.networks[role].module.state_dict()
        assert all(torch.equal(value, there[key]) for key, value in network.module.state_dict().items()), role


@pytest.mark.parametrize(
    ("changes", "dropout"),
    [({}, 0.0), ({"accumulate": 2, "ema": 0.9, "selection": "best-validation"}, 0.3)],
    ids=["plain", "accumulated, averaged, selected, with dropout"],
)
def test_members_end_where_they_end_alone(changes, dropout, monkeypatch):
    options, task, ran = {"whole": recipe(**changes), "dropout": dropout}, ToyTask(STEPS), []
    driven = group(FAMILIES, task=task, **options)
    task.seen.clear()
    show = SharedTeacher.show
    monkeypatch.setattr(SharedTeacher, "show", lambda *given: (ran.append(given[0]), show(*given))[1])
    assert Lockstep(driven, refuse).run() == list(FAMILIES)
    assert task.seen == [(epoch, step) for epoch in range(2) for step in range(STEPS)]  # each batch was drawn once
    assert len(ran) == 2 * STEPS * changes.get("accumulate", 1) and len(set(ran)) == 1  # and shown to one teacher
    for name in FAMILIES:
        assert_same(alone(name, **options), driven[name])


class TinyTask(NoisyTask):
    """Random batches of one form, with what methods need of them."""

    def __init__(self, form, needs):
        super().__init__(STEPS)
        self.form, self.needs = form, needs
        self.kind = "denoiser" if form == "denoisers" else "class_logits"

    def batches(self, epoch, start):
        for step in range(start, self.steps_per_epoch):
            self.seen.append((epoch, step))
            yield tiny_batch(derive(0, epoch, step), self.needs, self.form)


def tiny_group(methods, form, changes):
    """Trainers of tiny networks of one form, of one width, with one teacher and one task."""
    made, teacher = {}, tiny_network(8, 1, form)
    for name in methods:
        method = registry.create(name)
        task = made[methods[0]].task if made else TinyTask(form, method.needs)
        batch = tiny_batch(form=form)
        example = tuple(given[:2] for given in (batch.student_input, *batch.conditions))
        networks = {"student": tiny_network(8, 0, form), "teacher": teacher}
        distiller = Distiller(networks, method, "offline", task.task_loss, task.kind, example, tiny_facts(form))
        made[name] = Trainer(distiller, task, recipe(batch_size=12, **changes), 0)
    return made


@pytest.mark.parametrize(
    ("form", "methods", "own"),
    [
        ("pixels", ("none", "kd", "cwd", "rdd"), ()),  # with masks, and auxiliary predictions
        ("images", ("mlkd", "kd+mlkd"), ()),  # a stronger view of its own
        ("images", ("ema-teacher", "kd+ema-teacher"), ()),  # another view for each network
        ("denoisers", ("consistency", "output", "progressive", "bksdm"), ("consistency", "progressive")),
    ],
    ids=["pixels", "stronger views", "own views", "denoisers"],
)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_whatever_is_predicted_and_seen(form, methods, own, accumulate):
    """Those who choose their inputs (``own``) feed them to the teacher themselves, to the same copy of it."""
    driven = tiny_group(methods, form, {"accumulate": accumulate})
    lockstep = Lockstep(driven, refuse)
    assert len({id(each.distiller.networks["teacher"]) for each in driven.values()}) == 1
    reading = {name for name, each in driven.items() if each.distiller.reads_teacher} - set(own)
    assert {member.name for member in lockstep._members if member.teacher} == reading
    lockstep.run()
    for name in methods:
        expected = tiny_group((name,), form, {"accumulate": accumulate})[name]
        expected.task.needs = driven[methods[0]].task.needs
        expected.run()
        assert_same(expected, driven[name])


def test_a_tap_that_prevents_folding_for_one_member_moves_no_bit_of_another():
    ours = make("kd")
    teacher = ours.distiller.teacher
    folded = ours.distiller.networks["teacher"]
    assert [type(m).__name__ for m in folded.module.stages[1]] == ["Conv2d", "Identity", "ReLU"]
    theirs = make("kd")
    theirs.distiller.__dict__["teacher"] = teacher
    kept = dataclasses.replace(folded, module=teacher)  # as a tap on its convolutions would leave it
    theirs.distiller.networks["teacher"] = kept
    first, second = share_teachers([ours.distiller, theirs.distiller])
    assert first is not second and theirs.distiller.networks["teacher"] is kept
    assert ours.distiller.networks["teacher"] is folded


def losing(made, step, how):
    """Let the method of a trainer meet with an accident at a step."""
    losses = made.distiller.method.losses

    def fail(student, teacher, circumstances):
        found = losses(student, teacher, circumstances)
        if made.progress.step < step:
            return found
        if isinstance(how, Exception):
            raise how
        return Losses(student={name: term * how for name, term in found.student.items()})

    made.distiller.method.losses = fail


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        (float("nan"), Diverged),
        (KeyError("tap"), KeyError),
        (Unsupported("maps are too small"), Unsupported),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
    ],
    ids=["diverges", "raises", "cannot run", "lacks memory"],
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_member_that_fails_leaves_the_others_as_they_were(how, kind, place):
    driven, told = group(FEW), {}
    name = FEW[place]
    losing(driven[name], STEPS + 1, how)
    lockstep = Lockstep(driven, lambda failed, error: told.setdefault(failed, error))
    assert lockstep.run() == [other for other in FEW if other != name]
    assert list(told) == [name] and isinstance(told[name], kind)
    for other in FEW:
        if other != name:
            assert_same(alone(other), driven[other])


def test_what_a_failed_member_held_is_given_back():
    driven = group(FEW)
    losing(driven["kd"], 1, torch.OutOfMemoryError("CUDA out of memory"))
    held, freed = weakref.ref(driven["kd"].distiller.student), []

    def failed(name, error):
        driven.pop(name)

    lockstep = Lockstep(driven, failed)
    end = driven["crd"].end_epoch
    driven["crd"].end_epoch = lambda epoch: (freed.append(held() is None), end(epoch))
    lockstep.run()
    gc.collect()
    assert freed == [True, True]


def test_a_failure_of_what_is_shared_is_everybodys(monkeypatch):
    def broken(*_):
        raise AdmError("the disk is gone")
        yield

    driven, told = group(FEW), {}
    monkeypatch.setattr(driven["kd"].task, "batches", broken)
    assert Lockstep(driven, lambda name, error: told.setdefault(name, str(error))).run() == []
    assert told == dict.fromkeys(FEW, "the disk is gone")

    driven, told = group(("none", *FEW)), {}
    monkeypatch.setattr(SharedTeacher, "show", lambda *_: 1 / 0)
    assert Lockstep(driven, lambda name, error: told.setdefault(name, type(error))).run() == ["none"]
    assert told == dict.fromkeys(FEW, ZeroDivisionError)
    assert_same(alone("none"), driven["none"])


def test_a_stop_in_the_middle_and_another_start_end_where_an_uninterrupted_run_ends(tmp_path):
    stopped = group(FEW, folder=tmp_path)
    task = stopped["kd"].task
    with pytest.raises(Stopped, match="epoch 2 of 2"):
        Lockstep(stopped, refuse, lambda: task.seen[-1] == (1, 1)).run()
    again = group(FEW, folder=tmp_path)
    assert Lockstep(again, refuse).run() == list(FEW)
    assert again["kd"].task.seen[0] == (1, 2)
    for name in FEW:
        assert_same(alone(name), again[name])


def test_a_stop_between_two_evaluations_costs_none_of_them(tmp_path):
    stopped = group(FEW, folder=tmp_path)
    with pytest.raises(Stopped, match="epoch 1 of 2"):
        Lockstep(stopped, refuse, lambda: stopped["kd"].progress.epochs == 1).run()
    assert [each.progress.epochs for each in stopped.values()] == [1, 0, 0]
    again = group(FEW, folder=tmp_path)
    assert Lockstep(again, refuse).run() == list(FEW)
    for name in FEW:
        assert_same(alone(name), again[name])


def test_members_that_stand_at_different_steps_go_on_together(tmp_path):
    """As a kill leaves them that came between two checkpoints, or a member that has lost its own."""
    for number, name in enumerate(FEW):
        made = make(
            name, checkpoint_file=tmp_path / f"{name}.pt", asked_to_stop=iter([False] * 3 * number + [True]).__next__
        )
        if name != "crd":
            with pytest.raises(Stopped):
                made.run()
    again = group(FEW, folder=tmp_path)
    task = again["kd"].task
    assert Lockstep(again, refuse).run() == list(FEW)
    assert task.seen == [(epoch, step) for epoch in range(2) for step in range(STEPS)]
    for name in FEW:
        assert again[name].progress.step == 2 * STEPS
        assert_same(alone(name), again[name])


def test_a_member_of_another_recipe_is_refused():
    driven = group(("kd", "at")) | {"longer": make("none", whole=recipe(epochs=3))}
    with pytest.raises(AdmError, match="'longer' trains by another recipe"):
        Lockstep(driven, refuse)


def test_each_member_is_told_what_it_would_have_taken_alone(monkeypatch):
    """With a clock on which a batch takes 1000 s, the teacher 100, and the members 10 and 1."""
    clock = [0.0]
    monkeypatch.setattr("adm_core.meter.time.perf_counter", lambda: clock[0])
    driven = group(("kd", "none"))
    task, show = driven["kd"].task, SharedTeacher.show

    def spending(seconds, do):
        def timed(*given):
            clock[0] += seconds
            return do(*given)

        return timed

    batches = task.batches
    monkeypatch.setattr(task, "batches", lambda *given: (spending(1000, lambda b: b)(b) for b in batches(*given)))
    monkeypatch.setattr(SharedTeacher, "show", spending(100, show))
    for name, seconds in (("kd", 10), ("none", 1)):
        driven[name].step = spending(seconds, driven[name].step)
    Lockstep(driven, refuse).run()
    steps = 2 * STEPS
    kd, none = driven["kd"].trained(), driven["none"].trained()
    assert (kd.seconds, kd.step_ms, kd.shared) == (1110 * steps, 1110_000, 1100 * steps)
    assert (none.seconds, none.step_ms, none.shared) == (1001 * steps, 1001_000, 1000 * steps)
    assert kd.peak_mb is not None and kd.peak_mb > 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux measures the peak of a process anew")
def test_memory_of_one_member_is_not_told_of_another():
    def peaks(**greedy):
        driven = group(("at", "kd"))
        for name, each in driven.items():
            losses, sizes = each.distiller.method.losses, greedy.get(name, (1, 1))
            each.best_state = {"student": {"kept": torch.ones(sizes[1], 2**18)}}  # MiB
            each.distiller.method.losses = lambda *given, do=losses, n=sizes[0]: (torch.ones(n, 2**18), do(*given))[1]
        Lockstep(driven, refuse).run()
        return {name: each.trained().peak_mb for name, each in driven.items()}

    little, working, keeping = peaks(), peaks(at=(300, 1)), peaks(at=(1, 300))
    assert working["at"] > little["at"] + 200 and keeping["at"] > little["at"] + 200
    assert working["kd"] < little["kd"] + 100 and keeping["kd"] < little["kd"] + 100
    assert abs(alone("kd").trained().peak_mb - little["kd"]) < 100


def test_the_checkpoints_of_all_members_together_take_as_little_as_those_of_one(tmp_path, monkeypatch):
    clock, kept, write, step = [0.0], [], checkpoint.save, Trainer.step
    monkeypatch.setattr("adm_core.pace.time.monotonic", lambda: clock[0])

    def tick(seconds):
        clock[0] += seconds

    monkeypatch.setattr(Trainer, "step", lambda *given: (step(*given), tick(0.5)))
    monkeypatch.setattr(checkpoint, "save", lambda path, state: (write(path, state), tick(0.1), kept.append(clock[0])))
    members = group(("none", "kd"), task=ToyTask(50), whole=recipe(epochs=1), folder=tmp_path, checkpoint_seconds=5.0)
    Lockstep(members, refuse).run()
    # Two networks at 0.1 s each: 10 s from one pair of checkpoints to the next are 2 %.
    assert len(kept) == 2 * 5 and 0.1 * len(kept[2:]) <= 0.02 * (clock[0] - kept[1]) + 0.1
