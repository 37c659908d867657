"""Relations between examples, channels and stages: against torchdistill and literal loops; what void positions do."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torchdistill.losses import mid_level

from adm_core import losses
from adm_core.losses import channels, examples, features
from adm_core.review import ReviewChain
from adm_core.testing.setup import Setup


def numbers(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def agree(ours, theirs, student):
    """Values and gradients of two losses at the same student, to 1e-6."""
    found = []
    for loss in (ours, theirs):
        leaf = student.clone().requires_grad_()
        value = loss(leaf)
        found.append((value.detach(), torch.autograd.grad(value, leaf)[0]))
    (value, gradient), (expected, slope) = found
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(gradient, slope, rtol=1e-6, atol=1e-6 * float(slope.abs().max()))
    assert float(slope.abs().max()) > 0


def io(tensor):
    return {"at": {"output": tensor}}


def theirs(name, *args, **kwargs):
    return getattr(mid_level, name)("at", "at", *args, **kwargs)


VECTORS = numbers(0, 6, 5), numbers(1, 6, 7)
MAPS = numbers(2, 4, 5, 6, 6), numbers(3, 4, 7, 6, 6)
ALIKE = numbers(4, 4, 5, 6, 6), numbers(5, 4, 5, 6, 6)


def test_sp_is_a_loop_over_pairs_of_examples_on_maps_of_any_size():
    """Rows have length one in the Euclidean sense, as in the paper; torchdistill's sum to one in absolute value."""
    student, teacher = numbers(6, 4, 5, 6, 6), numbers(7, 4, 7, 3, 3)

    def rows(maps):
        gram = torch.stack([torch.stack([(a * b).sum() for b in maps]) for a in maps])
        return torch.stack([row / row.square().sum().sqrt() for row in gram])

    def literal(s):
        return (rows(s) - rows(teacher)).square().sum() / len(s) ** 2

    agree(lambda s: examples.activation_similarity(s, teacher), literal, student)


@pytest.mark.parametrize(("distance", "angle"), [(1.0, 0.0), (0.0, 1.0)])
def test_rkd_is_torchdistills(distance, angle):
    student, teacher = VECTORS
    ours = examples.distance_relations if distance else examples.angle_relations
    oracle = mid_level.RKDLoss("at", "at", distance, angle, "mean")
    agree(lambda s: ours(s, teacher), lambda s: oracle(io(s), io(teacher)), student)


def test_angles_are_those_of_a_loop_over_triplets():
    student, teacher = VECTORS

    def cosine(v, i, j, k):
        a, b = v[j] - v[i], v[k] - v[i]
        return a @ b / (a.norm() * b.norm()) if i not in (j, k) else v.new_zeros(())

    triplets = list(itertools.product(range(len(student)), repeat=3))

    def literal(s):
        return sum(F.smooth_l1_loss(cosine(s, *t), cosine(teacher, *t)) for t in triplets) / len(triplets)

    agree(lambda s: examples.angle_relations(s, teacher), literal, student)


def test_equal_examples_have_finite_relations_without_gradients_between_them():
    student = numbers(0, 4, 5)
    student[1] = student[0]
    student.requires_grad_()
    for loss in (examples.distance_relations, examples.angle_relations, examples.neighbour_divergence):
        (gradient,) = torch.autograd.grad(loss(student, VECTORS[1][:4]), student)
        assert bool(gradient.isfinite().all())


def test_pkt_is_torchdistills():
    student, teacher = VECTORS
    oracle = mid_level.PKTLoss("at", "output", "at", "output")
    agree(lambda s: examples.neighbour_divergence(s, teacher), lambda s: oracle(io(s), io(teacher)), student)


def test_cc_is_torchdistills_on_directions_and_tends_to_the_gaussian_kernel():
    student, teacher = VECTORS
    oracle = theirs("CCKDLoss", {"type": "gaussian", "gamma": 0.4, "max_p": 2}, "none")

    def squared(s):
        return oracle(io(F.normalize(s)), io(F.normalize(teacher))) ** 2 / len(s) ** 2

    agree(lambda s: examples.kernel_congruence(s, teacher, 0.4, 2), squared, student)
    gaussians = [(-0.4 * torch.cdist(F.normalize(v), F.normalize(v)).square()).exp() for v in VECTORS]
    exact = (gaussians[0] - gaussians[1]).square().mean()
    torch.testing.assert_close(examples.kernel_congruence(student, teacher, 0.4, 20), exact, rtol=1e-6, atol=1e-12)


def test_nst_is_a_loop_over_pairs_of_channels():
    student, teacher = MAPS

    def kernel(a, b):
        pairs = [(F.normalize(x, dim=0) @ F.normalize(y, dim=0)) ** 2 for x in a for y in b]
        return sum(pairs) / len(pairs)

    def literal(s):
        each = [
            kernel(t, t) + kernel(o, o) - 2 * kernel(o, t)
            for o, t in zip(s.flatten(2), teacher.flatten(2), strict=True)
        ]
        return sum(each) / len(each)

    agree(lambda s: channels.selectivity_distance(s, teacher), literal, student)


def test_ickd_is_a_loop_over_pairs_of_channels():
    student, teacher = numbers(4, 4, 5, 6, 6), numbers(5, 4, 5, 3, 3)

    def rows(image):
        gram = torch.stack([torch.stack([(a * b).sum() for b in image]) for a in image])
        return torch.stack([row / row.norm() for row in gram])

    def literal(s):
        each = [(rows(own) - rows(other)).square().sum() / 5 for own, other in zip(s, teacher, strict=True)]
        return sum(each) / len(each)

    agree(lambda s: channels.channel_correlation(s, teacher), literal, student)


def test_vids_likelihood_is_torchdistills():
    student, teacher = ALIKE
    variance = numbers(8, 5).exp()
    pair = {"weight": 1, **{role: {"io": "output", "path": "at"} for role in ("student", "teacher")}}
    oracle = mid_level.VIDLoss({"pair": pair})
    agree(
        lambda s: features.gaussian_nll(s, variance, teacher),
        lambda s: oracle({"at": {"output": (s, variance[:, None, None])}}, io(teacher)),
        student,
    )


def test_vids_variances_begin_as_set_and_move():
    bench = Setup("vid", "offline", {})
    alphas = [regressor.alpha for regressor in bench.distiller.parts["regressors"]]
    before = [alpha.detach().clone() for alpha in alphas]
    assert all(float((F.softplus(alpha) + 1e-5 - 5.0).abs().max()) < 1e-5 for alpha in before)
    bench.step(0)
    assert len(alphas) == 3 and all(bool((a != b).all()) for a, b in zip(alphas, before, strict=True))


@pytest.mark.parametrize("side", [8, 4, 3, 1])
def test_the_hierarchical_context_loss_is_torchdistills(side):
    student, teacher = numbers(4, 3, 5, side, side), numbers(5, 3, 5, side, side)
    oracle = mid_level.HierarchicalContextLoss("at", "output", "at", "output")
    agree(
        lambda s: features.hierarchical_context(s, teacher),
        lambda s: oracle({"at": {"output": (s, None)}}, io(teacher)),
        student,
    )


def test_levels_are_fused_from_the_deepest_up_as_written():
    chain = ReviewChain([3, 4], [5, 6], inner=2).double().eval()
    fine, deep = numbers(0, 2, 3, 4, 4), numbers(1, 2, 4, 2, 2)
    first, last = chain.levels
    end = last.enter(deep)
    up = end.repeat_interleave(2, 2).repeat_interleave(2, 3)
    entered = first.enter(fine)
    shares = torch.sigmoid(F.conv2d(torch.cat([entered, up], 1), first.shares[0].weight, first.shares[0].bias))
    fused = entered * shares[:, 0][:, None] + up * shares[:, 1][:, None]
    found = chain([fine, deep], [(8, 8), (2, 2)])
    expected = first.leave(fused.repeat_interleave(2, 2).repeat_interleave(2, 3)), last.leave(end)
    for ours, literal in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, literal, rtol=1e-6, atol=1e-9)


def test_reviewkd_grows_over_its_warm_up_and_reads_what_teachers_show():
    half, full = (Setup("reviewkd", "offline", {}).losses(0, progress) for progress in (1 / 24, 0.5))
    assert float(full.student["review"].detach()) == pytest.approx(2 * float(half.student["review"].detach()))
    bench = Setup("reviewkd", "offline", {"reviewkd": {"preact": False, "warmup": 0.0, "weight": 1.0}})
    views = bench.distiller.views(bench.batch(0))[0]
    levels = {
        role: [*view.maps(["all-stages"]), view.features["penultimate"][:, :, None, None]]
        for role, view in views.items()
    }
    fused = bench.distiller.parts["review"](levels["student"], [tuple(m.shape[2:]) for m in levels["teacher"]])
    pairs = zip(fused, levels["teacher"], strict=True)
    expected = sum(float(features.hierarchical_context(ours, other).detach()) for ours, other in pairs)
    assert float(bench.losses(0).student["review"].detach()) == pytest.approx(expected, rel=1e-5)


def test_srrl_asks_the_teachers_classifier_about_the_students_vectors():
    bench = Setup("srrl", "offline", {})
    student, teacher = (bench.distiller.views(bench.batch(0))[0][role] for role in ("student", "teacher"))
    head, vectors = bench.distiller.teacher.head, bench.distiller.parts["connector"](student.features["penultimate"])
    read = torch.einsum("bc,kc->bk", vectors, head.weight) + head.bias
    found = bench.losses(0).student
    expected = {
        "features": F.mse_loss(vectors, teacher.features["penultimate"]),
        "regression": 5 * F.mse_loss(read, teacher.prediction),
    }
    assert found.keys() == expected.keys()
    assert all(float(found[k].detach()) == pytest.approx(float(v.detach()), rel=1e-5) for k, v in expected.items())


def test_cat_kd_without_space_is_the_squared_error_of_logits_without_bias():
    bench = Setup("cat-kd", "offline", {"cat-kd": {"side": 1, "weight": 1.0}})
    views = bench.distiller.views(bench.batch(0))[0]
    ours, other = (views[r].prediction - getattr(bench.distiller, r).head.bias for r in ("student", "teacher"))
    found = float(bench.losses(0).student["attention"].detach())
    assert found == pytest.approx(float(F.mse_loss(ours, other).detach()), rel=1e-5)


@pytest.mark.parametrize("normalise", [False, True])
def test_cat_kd_pools_the_classifiers_response_at_every_position(normalise):
    bench = Setup("cat-kd", "offline", {"cat-kd": {"weight": 1.0, "normalise": normalise}})
    views, maps = bench.distiller.views(bench.batch(0))[0], []
    for role in ("student", "teacher"):
        weight = getattr(bench.distiller, role).head.weight
        response = torch.einsum("bchw,kc->bkhw", views[role].features["last"], weight)
        pooled = response.unflatten(2, (2, -1)).unflatten(4, (2, -1)).mean((3, 5))
        maps.append(pooled / pooled.norm(dim=(2, 3), keepdim=True) if normalise else pooled)
    found = float(bench.losses(0).student["attention"].detach())
    assert found == pytest.approx(float(F.mse_loss(*maps).detach()), rel=1e-4)


def test_semckd_is_a_loop_over_examples_and_pairs_of_stages():
    bench = Setup("semckd", "offline", {"semckd": {"weight": 1.0}})
    parts, views = bench.distiller.parts, bench.distiller.views(bench.batch(0))[0]
    own, fixed = (views[role].maps(["all-stages"]) for role in ("student", "teacher"))
    projected = {}
    for (i, s), (j, t) in itertools.product(enumerate(own), enumerate(fixed)):
        side = min(s.shape[2], t.shape[2])
        near, target = (F.adaptive_avg_pool2d(m, side) for m in (s, t))
        projected[i, j] = (parts["projectors"][3 * i + j](near) - target).square()
    queries, keys = (
        [F.normalize(layers(m.flatten(1) @ m.flatten(1).T)) for layers, m in zip(parts[part], maps, strict=True)]
        for part, maps in (("query", own), ("key", fixed))
    )
    total = 0.0
    for b, i in itertools.product(range(len(own[0])), range(3)):
        attention = torch.stack([queries[i][b] @ keys[j][b] for j in range(3)]).softmax(0)
        total += sum(float((attention[j] * projected[i, j][b].mean()).detach()) for j in range(3)) / (3 * len(own[0]))
    assert float(bench.losses(0).student["calibrated"].detach()) == pytest.approx(total, rel=1e-4)


RELATIONS = {
    "sp": examples.activation_similarity,
    "distance": examples.distance_relations,
    "angle": examples.angle_relations,
    "pkt": examples.neighbour_divergence,
    "cc": lambda s, t, mask: examples.kernel_congruence(s, t, 0.4, 2, mask),
    "nst": channels.selectivity_distance,
    "ickd": channels.channel_correlation,
    "vid": lambda s, t, mask: features.gaussian_nll(s, torch.ones(5, dtype=torch.float64), t, mask),
    "reviewkd": features.hierarchical_context,
}


@pytest.mark.parametrize("loss", RELATIONS.values(), ids=RELATIONS)
def test_void_positions_count_for_nothing_and_a_void_example_is_as_if_not_there(loss):
    student, teacher = ALIKE
    valid = torch.rand(4, 6, 6, generator=torch.Generator().manual_seed(1)) < 0.7
    valid[2] = False
    others = [torch.where(valid[:, None], m, 10 * numbers(9, *m.shape)) for m in ALIKE]
    leaf = others[0].requires_grad_()
    found = loss(leaf, others[1], valid)
    torch.testing.assert_close(found.detach(), loss(student, teacher, valid), rtol=1e-9, atol=1e-12)
    (gradient,) = torch.autograd.grad(found, leaf)
    assert float((gradient * ~valid[:, None]).abs().max()) == 0.0 < float(gradient.abs().max())
    there = [0, 1, 3]
    without = loss(student[there], teacher[there], valid[there])
    torch.testing.assert_close(found.detach(), without, rtol=1e-9, atol=1e-12)
    everywhere = torch.ones(4, 6, 6, dtype=torch.bool)
    torch.testing.assert_close(loss(*ALIKE, everywhere), loss(*ALIKE, None), rtol=1e-9, atol=1e-12)


def test_a_batch_in_which_nothing_is_valid_gives_zero():
    nothing = torch.zeros(4, 6, 6, dtype=torch.bool)
    assert [float(loss(*ALIKE, nothing)) for loss in RELATIONS.values()] == [0.0] * len(RELATIONS)


def test_relations_do_not_ask_for_scale_or_rotation():
    """Distances as shares of their mean and angles are those of a scaled and rotated copy."""
    vectors = VECTORS[0]
    turn, _ = torch.linalg.qr(numbers(3, 5, 5))
    for loss in (losses.examples.distance_relations, losses.examples.angle_relations):
        assert float(loss(3 * vectors @ turn, vectors)) == pytest.approx(0.0, abs=1e-12)
    assert math.isclose(float(examples.neighbour_divergence(3 * vectors, vectors)), 0.0, abs_tol=1e-12)
