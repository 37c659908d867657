"""Af-DCD against literal loops over anchors: groups of channels told apart within patches, and features restored."""

import math

import pytest
import torch

from adm_core.errors import Unsupported
from adm_core.losses import contrast, features
from adm_core.testing.promises import CHECKS
from adm_core.testing.setup import Setup
from tests.core.literal import numbers
from tests.core.test_methods_relations import agree

B, C = 2, 6
STUDENT, TEACHER = numbers(0, B, C, 9, 13), numbers(1, B, C, 9, 13)


def pooled_by_hand(maps, side):
    h, w = maps.shape[2] // side, maps.shape[3] // side
    cells = [
        [maps[:, :, i * side : (i + 1) * side, j * side : (j + 1) * side].amax((2, 3)) for j in range(w)]
        for i in range(h)
    ]
    return torch.stack([torch.stack(row, -1) for row in cells], -2)


def contrast_by_loop(student, teacher, groups, patch, pool, tau, valid):
    own, theirs = pooled_by_hand(student, pool), pooled_by_hand(teacher, pool)
    size, terms = C // groups, {}
    for b in range(B):
        for top in range(0, own.shape[2] - patch + 1, patch):
            for left in range(0, own.shape[3] - patch + 1, patch):
                cells = [(top + i, left + j) for i in range(patch) for j in range(patch)]
                cells = [cell for cell in cells if valid[b, cell[0], cell[1]]]
                for at in cells:
                    for m in range(groups):
                        anchor = own[b, m * size : (m + 1) * size, *at]

                        def closeness(k, cell, anchor=anchor, b=b):
                            return (-(anchor - theirs[b, k * size : (k + 1) * size, *cell]).abs().sum() / tau).exp()

                        positive = closeness(m, at)
                        negatives = [closeness(k, cell) for cell in cells for k in range(groups) if k != m]
                        terms.setdefault((b, at), []).append(-(positive / (positive + sum(negatives))).log())
    return sum(sum(each) for each in terms.values()) / len(terms)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("groups", "patch", "pool", "pools"), [(3, 2, 2, 2), (2, 4, 4, 2), (6, 3, 2, 2)])
def test_patch_contrast_is_a_loop_over_anchors(groups, patch, pool, pools, masked):
    """The second has too small a map for four by four windows of four by four positions; all leave an edge out."""
    h, w = 9 // pools, 13 // pools
    valid = torch.ones(B, h, w, dtype=torch.bool)
    if masked:
        valid = torch.rand(B, h, w, generator=torch.Generator().manual_seed(5)) < 0.7
    agree(
        lambda s: contrast.patch_contrast(s, TEACHER, groups, patch, pool, 0.9, valid if masked else None),
        lambda s: contrast_by_loop(s, TEACHER, groups, patch, pools, 0.9, valid),
        STUDENT,
    )


def test_patch_contrast_of_alike_groups_is_that_of_a_guess():
    """Equal maps of one value: each anchor chooses among its own and all others of other groups, evenly."""
    maps = torch.ones(1, 8, 4, 4)
    assert float(contrast.patch_contrast(maps, maps, 4, 4, 1, 0.07)) == pytest.approx(4 * math.log(1 + 3 * 16))


def test_patch_contrast_of_a_perfect_match_among_distant_groups_is_nothing():
    maps = 100 * torch.arange(4.0).repeat_interleave(2).view(1, 8, 1, 1).expand(1, 8, 4, 4)
    assert float(contrast.patch_contrast(maps, maps, 4, 4, 1, 0.07)) == pytest.approx(0.0, abs=1e-9)


def test_void_maps_cost_nothing_and_give_no_gradient():
    student = STUDENT.clone().requires_grad_()
    void = torch.zeros(B, 9, 13, dtype=torch.bool)
    loss = contrast.patch_contrast(student, TEACHER, 3, 2, 2, 0.07, void)
    loss.backward()
    assert float(loss.detach()) == 0.0 and not student.grad.any()


def test_af_dcd_hides_restores_and_contrasts():
    bench = Setup("af-dcd", "offline", {"af-dcd": {"weight": 0.3, "contrast": 0.7, "ratio": 0.5}}, form="pixels")
    batch, parts = bench.batch(0), bench.distiller.parts
    views = bench.distiller.views(batch)[0]
    own, other = (views[role].features["last"] for role in ("student", "teacher"))
    keep = torch.rand(len(own), 1, 8, 8, generator=torch.Generator().manual_seed(0)) >= 0.5
    restored = parts["generator"](parts["adapter"](own) * keep)
    found = bench.losses().student
    distance = float(features.squared_distance(restored, other, batch.mask).detach())
    # Maps of 8x8 are pooled by two to hold a patch.
    told = float(contrast.patch_contrast(restored, other, 16, 4, 2, 0.07, batch.mask).detach())
    assert float(found["restored"].detach()) == pytest.approx(0.3 * distance, rel=1e-5)
    assert float(found["contrast"].detach()) == pytest.approx(0.7 * told, rel=1e-5)


def test_af_dcd_runs_on_maps_of_images():
    setup = Setup("af-dcd", "offline", {"af-dcd": {"tap": "last"}}, form="images")
    assert [detail for check in CHECKS.values() if (detail := check(setup.twin()))] == []


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"tap": "penultimate"}, "penultimate is not a feature map"),
        ({"tap": "last", "patch": 5}, "maps of 4 positions a side hold no patch of 5x5"),
        ({"tap": "last", "groups": 5}, "48 channels do not fall into 5 groups"),
    ],
)
def test_af_dcd_says_why_it_cannot_run(settings, reason):
    with pytest.raises(Unsupported, match=reason):
        Setup("af-dcd", "offline", {"af-dcd": settings}, form="images")
