"""What single methods do beyond their loss: pausing the teacher, warming up, training a regressor."""

import pytest
import torch

from adm_core import registry
from adm_core.method import View
from adm_core.testing.setup import Setup
from tests.core.toy import make_step


def view(logits):
    return View(logits, "class_logits", {}, torch.zeros(len(logits)))


def switch(student, teacher, target):
    return registry.create("switokd").losses(view(student), view(teacher), make_step(target, 0.5, torch.Generator()))


def test_switokd_pauses_a_teacher_far_ahead_and_only_then():
    """Worked by hand: G = 1.0, a_s = 1.4, a_t = 0.6, so the threshold is 1.4 - exp(-0.3) · 0.6 = 0.956."""
    target = torch.tensor([0])
    weak, strong = torch.tensor([[0.3, 0.6, 0.1]]).log(), torch.tensor([[0.7, 0.1, 0.2]]).log()
    ahead = switch(weak.clone().requires_grad_(), strong.clone().requires_grad_(), target)
    behind = switch(strong, weak, target)
    assert ahead.teacher_paused and not ahead.teacher and float(ahead.log["expert"]) == 1.0
    assert float(ahead.log["gap"]) == pytest.approx(1.0)
    assert not behind.teacher_paused and "mutual" in behind.teacher and float(behind.log["expert"]) == 0.0


def test_switokd_threshold_is_the_papers():
    g = torch.Generator().manual_seed(0)
    for scale in (0.1, 0.5, 1.0, 2.0, 4.0):
        s = torch.randn(16, 5, generator=g)
        y = torch.randint(5, (16,), generator=g)
        t = s + scale * 2 * torch.nn.functional.one_hot(y, 5)
        p, q, truth = s.softmax(1), t.softmax(1), torch.nn.functional.one_hot(y, 5)
        gap, a_s, a_t = ((u - v).abs().sum(1).mean() for u, v in ((p, q), (p, truth), (q, truth)))
        delta = a_s - torch.exp(-a_t / (a_s + a_t)) * a_t
        assert switch(s.requires_grad_(), t.requires_grad_(), y).teacher_paused == bool(gap > delta and a_t < a_s)


def test_a_paused_teacher_does_not_move():
    bench = Setup("switokd", "online", {})
    with torch.no_grad():
        bench.distiller.teacher.head.weight.zero_()
        bench.distiller.teacher.head.bias.zero_()
    paused = []
    for seed in range(6):
        before = bench.distiller.teacher.head.weight.clone()
        is_paused = bench.losses(seed).teacher_paused
        bench.step(seed)
        paused.append(is_paused)
        assert torch.equal(before, bench.distiller.teacher.head.weight) == is_paused
    assert not all(paused)


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.0), (1 / 24, 0.5), (0.5, 1.0)])
def test_dkd_warms_up_over_a_twelfth_of_training(progress, share):
    full = float(Setup("dkd", "offline", {"dkd": {"warmup": 0.0}}).losses(0, progress).student["dkd"].detach())
    ours = float(Setup("dkd", "offline", {}).losses(0, progress).student["dkd"].detach())
    assert ours == pytest.approx(share * full, rel=1e-5)


def test_kdcl_shares_the_loss_between_task_and_ensemble():
    losses = Setup("kdcl", "online", {"kdcl": {"alpha": 0.3}}).losses()
    assert losses.student_task == losses.teacher_task == pytest.approx(0.7)


def test_fitnet_regressor_learns_the_hint():
    bench = Setup("fitnet", "offline", {"fitnet": {"weight": 1.0}})
    first, *_, last = [float(bench.losses(0).student["hint"].detach()) for _ in range(30) if bench.step(0)]
    assert last < 0.7 * first


def test_fitnet_may_have_a_bare_convolution_between_maps_of_one_size():
    """CIRKD's: no bias, no normalisation, no activation, also where widths agree."""
    for widths in ((8, 12), (8, 8)):
        bench = Setup("fitnet", "offline", {"fitnet": {"regressor": "conv", "weight": 10.0}}, widths)
        ((weight,),) = [[*part.parameters()] for part in bench.distiller.parts.values()]
        assert weight.shape == (2 * widths[1], 2 * widths[0], 1, 1)
        views = bench.distiller.views(bench.batch(0))[0]
        own, theirs = (views[role].features["hint"] for role in ("student", "teacher"))
        guess = torch.einsum("oc,bchw->bohw", weight[:, :, 0, 0], own)
        found = bench.losses_of(views, bench.batch(0)).student["hint"]
        assert float(found.detach()) == pytest.approx(10 * float((guess - theirs).pow(2).mean().detach()), rel=1e-5)
    shapes = {"hint": (2, 4, 8, 8)}, {"hint": (2, 4, 4, 4)}
    told = registry.create("fitnet", {"fitnet": {"regressor": "conv"}}).supports(*shapes, "offline")
    assert told == "regressor 'conv' needs maps of one size at hint, not (8, 8) and (4, 4)"


def test_detached_view_is_constant_in_every_way():
    bench = Setup("adm", "online", {})
    v = bench.distiller.views(bench.batch(0))[0]["teacher"].detached()
    x = torch.randn(2, v.features["last"].shape[1], requires_grad=True)
    out = v.head(x)
    out.sum().backward()
    assert x.grad is not None and all(p.grad is None for p in bench.distiller.parameters())
    assert not v.prediction.requires_grad and not v.task_loss.requires_grad
