"""What one stage makes of the one before, FSP's flow and KDSVD's directions, against literal loops."""

import itertools

import pytest
import torch

from adm_core.errors import Unsupported
from adm_core.losses import channels, directions
from adm_core.testing.setup import Setup
from tests.core.literal import numbers
from tests.core.test_methods_relations import agree

B = 3
STUDENT = [numbers(0, B, 3, 4, 4), numbers(1, B, 5, 4, 4), numbers(2, B, 4, 2, 2)]
TEACHER = [numbers(3, B, 3, 4, 4), numbers(4, B, 5, 4, 4), numbers(5, B, 4, 2, 2)]


def pooled_by_hand(maps):
    """Means over windows of two by two."""
    return torch.stack([maps[..., y : y + 2, x : x + 2].mean((-2, -1)) for y in (0, 2) for x in (0, 2)], -1)


def flow_by_loop(lower, upper):
    """Entry by entry, position by position, of one image."""
    at = range(upper[0].numel())
    first = lower.flatten(1) if lower[0].numel() == len(at) else pooled_by_hand(lower)
    second = upper.flatten(1)
    rows = [
        [sum(first[c, p] * second[d, p] for p in at) / len(at) for d in range(len(upper))] for c in range(len(lower))
    ]
    return torch.stack([torch.stack(row) for row in rows])


def test_fsp_is_a_loop_over_consecutive_stages_channels_and_positions():
    def literal(first):
        loss = 0.0
        for b in range(B):
            own, other = [first[b], STUDENT[1][b], STUDENT[2][b]], [maps[b] for maps in TEACHER]
            for level in range(2):
                difference = flow_by_loop(*own[level : level + 2]) - flow_by_loop(*other[level : level + 2])
                loss = loss + difference.square().mean() / B
        return loss

    agree(lambda first: channels.flow_distance([first, *STUDENT[1:]], TEACHER), literal, STUDENT[0])


def test_flow_knows_no_order_of_positions_and_grows_with_both_maps():
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    lower, upper = STUDENT[:2]
    shuffled = [maps.flatten(2)[..., order].view_as(maps) for maps in (lower, upper)]
    torch.testing.assert_close(channels.flow(*shuffled), channels.flow(lower, upper))
    torch.testing.assert_close(channels.flow(2 * lower, 3 * upper), 6 * channels.flow(lower, upper))


def test_flow_of_images_with_void_positions_is_that_of_the_others():
    mask = numbers(6, B, 4, 4) > -0.3
    mask[1] = False
    found = channels.flow(*STUDENT[:2], mask)
    for b in (0, 2):
        kept = [maps[b : b + 1].flatten(2)[..., mask[b].flatten()][..., None] for maps in STUDENT[:2]]
        torch.testing.assert_close(found[b : b + 1], channels.flow(*kept))
    assert not found[1].any()
    both = channels.flow_distance(STUDENT[:2], TEACHER[:2], mask)
    seen = channels.flow_distance(*([m[[0, 2]] for m in maps[:2]] for maps in (STUDENT, TEACHER)), mask[[0, 2]])
    torch.testing.assert_close(both, seen)


@pytest.mark.parametrize("form", ["images", "pixels"])
def test_fsp_trains_the_body_first_and_labels_then(form):
    bench = Setup("kd+fsp", "offline", {}, form=form)
    assert bench.losses(0, progress=0.05).student.keys() == {"fsp.flow"}
    assert bench.losses(0, progress=0.5).student.keys() == {"kd.kd"}
    head, body = bench.distiller.student.head.weight, bench.distiller.student.stages[0][1].weight
    resting, moving = head.detach().clone(), body.detach().clone()
    bench.step(0, progress=0.05)
    assert torch.equal(head, resting) and not torch.equal(body, moving)
    bench.step(1, progress=0.5)
    assert not torch.equal(head, resting)


def test_fsp_of_equal_widths_has_no_parts_to_train_and_one_map_is_too_few():
    assert not list(Setup("fsp", "offline", {}, widths=(8, 8)).distiller.parts.parameters())
    with pytest.raises(Unsupported, match="it needs two taps"):
        Setup("fsp", "offline", {"fsp": {"taps": ["last"]}})


def first_directions(maps):
    """The right singular vectors of one image's [HW, C] matrix by torch's own decomposition."""
    return torch.linalg.svd(maps.flatten(1).T, full_matrices=False).Vh


def kernel_by_loop(lower, upper):
    return torch.stack([torch.stack([(-((u - v) ** 2) / 8).exp() for v in lower]) for u in upper])


def directions_by_loop(own, other):
    """Of one image: the teacher's first direction, and the nearest of the student's first four."""
    theirs = first_directions(other)[0]
    theirs = -theirs if theirs.sum() < 0 else theirs
    each = first_directions(own)[:4]
    near = max(range(len(each)), key=lambda i: abs(float(each[i].detach() @ theirs)))
    return (-each[near] if each[near] @ theirs < 0 else each[near]), theirs


@pytest.mark.parametrize("level", range(3))
def test_kdsvd_is_a_loop_over_examples_and_pairs_of_channels(level):
    """The third stage has fewer positions than channels, and is decomposed the other way round."""
    student, teacher = ([*maps[:2], numbers(seed, B, 6, 2, 2)] for maps, seed in ((STUDENT, 7), (TEACHER, 8)))

    def replaced(maps):
        return [*student[:level], maps, *student[level + 1 :]]

    def literal(maps):
        loss = 0.0
        for b in range(B):
            found = [directions_by_loop(s[b], t[b]) for s, t in zip(replaced(maps), teacher, strict=True)]
            for below, above in itertools.pairwise(found):
                kernels = [kernel_by_loop(lower, upper) for lower, upper in zip(below, above, strict=True)]
                loss = loss + (kernels[0] - kernels[1]).square().sum() / B
        return loss

    agree(lambda maps: directions.singular_relations(replaced(maps), teacher), literal, student[level])


def test_the_students_direction_need_not_be_its_first():
    """A map of two directions whose order is the teacher's the other way round is as good as the teacher's own."""
    basis = torch.linalg.qr(numbers(9, 5, 2)).Q.T
    places = torch.linalg.qr(numbers(10, 16, 2)).Q
    first, second = ((places * torch.tensor(sizes) @ basis).T.view(1, 5, 4, 4) for sizes in ((3.0, 1.0), (1.0, 3.0)))
    other = TEACHER[0][:1]
    torch.testing.assert_close(
        directions.singular_relations([second, other], [first, other]), torch.zeros((), dtype=torch.float64)
    )


@pytest.mark.parametrize("maps", [torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4), torch.eye(4).view(1, 4, 2, 2) * 3])
def test_directions_that_are_not_determined_get_finite_gradients(maps):
    """No direction at all, one alone, or four of equal singular values."""
    leaf = maps.double().requires_grad_()
    teacher = numbers(11, *maps.shape)
    loss = directions.singular_relations([leaf, leaf], [teacher, teacher.roll(1, 1)])
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert loss.isfinite() and gradient.isfinite().all()


def test_kdsvd_leaves_void_positions_and_images_out():
    mask = numbers(6, B, 4, 4) > -0.3
    mask[1] = False
    dense = directions.singular_relations(STUDENT[:2], TEACHER[:2], mask)
    each = []
    for b in (0, 2):
        kept = [
            [m[b : b + 1].flatten(2)[..., mask[b].flatten()][..., None] for m in maps[:2]]
            for maps in (STUDENT, TEACHER)
        ]
        each.append(directions.singular_relations(*kept))
    torch.testing.assert_close(dense, sum(each) / 2)
