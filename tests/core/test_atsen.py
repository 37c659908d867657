"""ATSEN: its terms against literal loops, min-norm weights, masks, teachers that follow in fragments, and trained."""

import itertools
import math
import random

import pytest
import torch

from adm_core import registry
from adm_core.losses import teachers
from adm_core.method import View, ViewsOnDemand
from adm_core.testing.networks import task_loss, tiny_batch
from adm_core.testing.setup import Setup
from tests.core.literal import dot, kl, numbers, softmax
from tests.core.resuming import whole_and_resumed
from tests.core.toy import make_step

B, K, T = 6, 4, 2.0


def shortest(g1, g2):
    """The share that makes the mixture shortest, by trying all of a fine grid."""

    def length(a):
        mixed = [a * x + (1 - a) * y for x, y in zip(g1, g2, strict=True)]
        return dot(mixed, mixed)

    return min((i / 10_000 for i in range(10_001)), key=length)


@pytest.mark.parametrize("scale", [1.0, 0.1, 5.0])
def test_min_norm_share_is_the_best_of_all(scale):
    g1, g2 = numbers(0, 3, 2), scale * numbers(1, 3, 2) + numbers(0, 3, 2) / 2
    found = float(teachers.min_norm_share(g1, g2))
    assert found == pytest.approx(shortest(g1.flatten().tolist(), g2.flatten().tolist()), abs=1e-4)
    assert float(teachers.min_norm_share(g2, g1)) == pytest.approx(1 - found, abs=1e-9)


def test_equal_gradients_have_some_share():
    assert float(teachers.min_norm_share(torch.zeros(3), torch.zeros(3))) == 0


def setting(progress, dense=False, **settings):
    shape = (B, K, 2, 2) if dense else (B, K)
    logits = {name: (3 * numbers(n, *shape)) for n, name in enumerate(("student", "peer1"))}
    averages = {name: (3 * numbers(n + 2, *shape)) for n, name in enumerate(logits)}
    averages["peer1"] = averages["student"] + 1.5 * numbers(9, *shape)
    views = {name: View(z.requires_grad_(), "class_logits", {}, torch.zeros(B)) for name, z in logits.items()}
    shown = {name: View(z, "class_logits", {}, torch.zeros(B)) for name, z in averages.items()}
    copies = ViewsOnDemand({f"teacher_{name}": lambda view=view: view for name, view in shown.items()})
    mask = torch.ones(B, 4, 4, dtype=torch.bool) if dense else None
    if dense:
        mask[:, 2:], mask[1] = False, False
    step = make_step(torch.zeros(B, dtype=torch.int64), progress, torch.Generator(), mask)
    object.__setattr__(step, "views", views)
    object.__setattr__(step, "copies", copies)
    method = registry.create("atsen", {"atsen": settings})
    return method, step, views, averages


@pytest.mark.parametrize(("dense", "weights"), [(False, "min-norm"), (True, "min-norm"), (False, "mean")])
def test_terms_and_gradients_are_the_literal_ones(dense, weights):
    method, step, views, averages = setting(0.5, dense, confidence=0.5, weights=weights, temperature=T)
    found = method.losses(views["student"], None, step)
    assert found.student_task == 0
    for role, other in (("student", "peer1"), ("peer1", "student")):
        term = (found.student if role == "student" else found.peers[role])["teachers"]
        rows = {"own": views[role].prediction, "one": averages[role], "two": averages[other]}
        flat = {n: (z.movedim(1, -1) if dense else z).reshape(-1, K) for n, z in rows.items()}
        valid = step.mask[:, ::2, ::2].flatten() if dense else torch.ones(B, dtype=torch.bool)
        p = {name: [softmax(row, T) for row in z.tolist()] for name, z in flat.items()}
        sure = [max(softmax(row)) > 0.5 for row in flat["one"].tolist()]
        named = {name: [row.index(max(row)) for row in p[name]] for name in ("one", "two")}
        kept = [
            i for i in range(len(valid)) if valid[i] and sure[i] and named["one"][i] == named["two"][i]
        ]  # fmt: skip
        assert 0 < len(kept) < int(valid.sum())
        g = {
            name: [p["own"][i][k] - p[name][i][k] for i in kept for k in range(K)] for name in ("one", "two")
        }  # fmt: skip
        difference = [b - a for a, b in zip(g["one"], g["two"], strict=True)]
        best = min(max(dot(difference, g["two"]) / dot(difference, difference), 0), 1)
        a = best if weights == "min-norm" else 0.5
        expected = sum(T**2 * (a * kl(p["one"][i], p["own"][i]) + (1 - a) * kl(p["two"][i], p["own"][i])) for i in kept)
        assert float(term.detach()) == pytest.approx(expected / len(kept), rel=1e-6)
        (gradient,) = torch.autograd.grad(term, views[role].prediction)
        gradient = (gradient.movedim(1, -1) if dense else gradient).reshape(-1, K)
        for i in range(len(valid)):
            mixed = [T * (o - a * x - (1 - a) * y) / len(kept) for o, x, y in zip(
                p["own"][i], p["one"][i], p["two"][i], strict=True)]  # fmt: skip
            assert gradient[i].tolist() == pytest.approx(mixed if i in kept else [0] * K, abs=1e-6)


def test_nothing_agreed_is_no_loss():
    method, step, views, _ = setting(0.5, confidence=0.999999)
    term = method.losses(views["student"], None, step).student["teachers"]
    (gradient,) = torch.autograd.grad(term, views["student"].prediction)
    assert float(term.detach()) == 0 and torch.equal(gradient, torch.zeros_like(gradient))


def test_labels_are_learnt_first_and_never_after():
    setup = Setup("atsen", "peers", {"atsen": {"warmup": 0.2, "confidence": 0.0}})
    assert setup.losses(progress=0.1).student_task == 1 and not setup.losses(progress=0.1).student
    setup.step(0, progress=0.1)
    student, teacher = setup.distiller.student, setup.distiller.parts["teacher_student"].network
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), teacher.parameters(), strict=True))
    batch = setup.batch(1)
    moved = batch.__class__(**{**vars(batch), "target": (batch.target + 1) % 10})
    views = setup.distiller.views(batch)[0]
    ours, theirs = (setup.losses_of(views, b, progress=0.5) for b in (batch, moved))
    assert ours.student_task == 0 and torch.equal(ours.student["teachers"], theirs.student["teachers"])


@pytest.mark.parametrize("keep", [0.0, 0.7])
def test_each_tensor_follows_or_stays_and_statistics_follow_with_their_layer(keep):
    setup = Setup("atsen", "peers", {})
    setup.train(tiny_batch(0), 0.0, torch.Generator().manual_seed(0))  # in the warm-up: a copy of the student
    copied, student = setup.distiller.parts["teacher_student"], setup.distiller.student
    before = {name: value.clone() for name, value in copied.network.state_dict().items()}
    loss = task_loss(student(tiny_batch(1).student_input), tiny_batch(1)).mean()
    loss.backward()
    with torch.no_grad():
        for p in student.parameters():
            p.sub_(0.1 * p.grad + 0.01)
    counts = {"stayed": 0, "followed": 0}
    for seed in range(40):
        copied.network.load_state_dict(before)
        copied.follow_fragments(0.9, keep, random.Random(seed))
        moved = {}
        for name, value in copied.network.named_parameters():
            averaged = 0.9 * before[name] + 0.1 * student.get_parameter(name)
            moved[name] = not torch.equal(value, before[name])
            if moved[name]:
                torch.testing.assert_close(value, averaged)
            counts["followed" if moved[name] else "stayed"] += 1
        for name, value in copied.network.named_buffers():
            layer = name.rpartition(".")[0]
            if not moved[f"{layer}.weight"]:
                assert torch.equal(value, before[name])
            elif value.is_floating_point():
                torch.testing.assert_close(value, 0.9 * before[name] + 0.1 * student.get_buffer(name))
            else:
                assert torch.equal(value, student.get_buffer(name))
    share = counts["stayed"] / sum(counts.values())
    assert share == pytest.approx(keep, abs=0.07)


def test_the_teacher_is_deployed_trains_and_resumes(tmp_path, monkeypatch):
    settings = {"atsen": {"warmup": 0.4, "confidence": 0.3, "decay": 0.9, "keep": 0.5}}
    run, trained = whole_and_resumed(tmp_path, monkeypatch, "atsen", "peers", settings, epochs=10)
    assert trained.networks["student"].module is run.distiller.parts["teacher_student"].network
    counted = [value for value in trained.curves["log.counted"] if value is not None and not math.isnan(value)]
    assert 0.2 < counted[-1] <= 1
    assert trained.curves["validation.student.top1"][-1] > 60
    weights = (run.distiller.student, run.distiller.parts["teacher_student"].network)
    assert any(not torch.equal(a, b) for a, b in itertools.zip_longest(*(m.parameters() for m in weights)))
