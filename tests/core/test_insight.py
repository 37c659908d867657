"""The measures of the paper's observations against closed forms, literal loops and scikit-learn."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import jaccard_score, roc_auc_score
from torch import Tensor

from adm_core import registry
from adm_core.insight import activation, auc, iou, measures, top_share, unit_range, weight_measures
from adm_core.losses.spatial import rank_weights, softmax_weights
from adm_core.method import View
from adm_core.testing.networks import tiny_facts
from tests.core.toy import make_step

B, SIDE = 6, 16


def random_objects(seed: int = 0, share: float = 0.3) -> Tensor:
    return torch.rand(B, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) < share


def noise(seed: int, *shape: int) -> Tensor:
    return torch.rand(*(shape or (B, SIDE, SIDE)), generator=torch.Generator().manual_seed(seed))


def test_a_perfect_map_reaches_one_and_its_opposite_zero() -> None:
    objects = random_objects()
    found = measures(objects.float(), objects.float(), 1 - objects.float(), objects)
    for key in (
        "similarity_auc",
        "similarity_top",
        "similarity_contrast",
        "teacher_at_mean",
        "teacher_at_area",
        "ceiling",
    ):
        assert torch.allclose(found[key], torch.ones(B, dtype=torch.float64)), key
    for key in ("similarity_bottom", "student_at_mean", "student_at_area"):
        assert torch.allclose(found[key], torch.zeros(B, dtype=torch.float64)), key


def test_a_constant_map_reaches_exactly_chance() -> None:
    objects = random_objects()
    found = measures(torch.ones(B, 4, 4), torch.ones(B, 4, 4), torch.zeros(B, 2, 2), objects)
    area = objects.double().mean((1, 2))
    assert torch.allclose(found["area"], area)
    assert torch.allclose(found["chance"], area / (2 - area))
    assert torch.allclose(found["chance_30"], 0.3 * area / (0.3 + area - 0.3 * area))
    for name in ("similarity", "difference"):
        assert torch.allclose(found[f"{name}_auc"], torch.full_like(area, 0.5))
        for end in ("top", "bottom"):
            assert torch.allclose(found[f"{name}_{end}"], found["chance"])
            assert torch.allclose(found[f"{name}_{end}_30"], found["chance_30"])


def test_random_maps_reach_chance_on_average() -> None:
    generator = torch.Generator().manual_seed(1)
    objects = torch.rand(400, 28, 28, generator=generator) < 0.35
    found = measures(*(torch.rand(400, 28, 28, generator=generator) for _ in range(3)), objects)
    for key, chance in (
        ("similarity_top", "chance"),
        ("similarity_bottom_30", "chance_30"),
        ("similarity_others", "chance"),
    ):
        assert float(found[key].mean()) == pytest.approx(float(found[chance].mean()), abs=2e-3)
    assert float(found["similarity_auc"].mean()) == pytest.approx(0.5, abs=3e-3)
    assert float(found["similarity_contrast"].mean()) == pytest.approx(0.0, abs=2e-3)


@pytest.mark.parametrize("levels", [3, 1_000_000])
def test_auc_is_scikit_learns_also_with_ties_and_void(levels: int) -> None:
    values, objects = (noise(2) * levels).floor(), random_objects(3)
    counted = noise(4) < 0.8
    inside = objects & counted
    found = auc(values.flatten(1), inside.flatten(1), counted.flatten(1))
    for b in range(B):
        expected = roc_auc_score(inside[b][counted[b]], values[b][counted[b]])
        assert float(found[b]) == pytest.approx(expected, abs=1e-12)


def test_top_iou_is_scikit_learns_jaccard_of_the_largest_values() -> None:
    values, objects = noise(5), random_objects(6)
    found = measures(values, values, values, objects)
    for b in range(B):
        order, count = values[b].flatten().argsort(descending=True), int(objects[b].sum())
        for chosen, key in ((order[:count], "similarity_top"), (order[-count:], "similarity_bottom")):
            picked = torch.zeros(SIDE * SIDE, dtype=torch.bool)
            picked[chosen] = True
            assert float(found[key][b]) == pytest.approx(jaccard_score(objects[b].flatten(), picked))


def test_a_selection_has_the_wanted_size_and_ties_share_what_is_left() -> None:
    values = torch.tensor([[5.0, 3.0, 3.0, 3.0, 1.0, 9.0]])
    counted = torch.tensor([[True, True, True, True, True, False]])
    chosen = top_share(values, torch.tensor([0.4]), counted)  # two of five positions
    assert chosen[0].tolist() == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3, 0, 0])
    assert float(iou(chosen, torch.tensor([[True, True, False, False, False, False]]))) == pytest.approx(
        (4 / 3) / (8 / 3)
    )


def test_void_pixels_decide_nothing() -> None:
    objects, valid = random_objects(7), noise(8) < 0.7
    maps = [noise(seed) for seed in (9, 10, 11)]
    found = measures(*maps, objects, valid)
    other = measures(maps[0].where(valid, 7.0), *maps[1:], objects.where(valid, ~objects), valid)
    for key in found:
        if "others" not in key and "ceiling" not in key:
            assert torch.equal(found[key], other[key]), key


def test_images_without_object_or_without_background_have_no_measures() -> None:
    objects = random_objects()
    objects[0], objects[1] = False, True
    found = measures(noise(1), noise(2), noise(3), objects)
    assert all(values[:2].isnan().all() and values[2:].isfinite().all() for values in found.values())


def test_others_are_the_objects_of_all_other_images_in_and_out_of_the_batch() -> None:
    objects, elsewhere, values = random_objects(1), random_objects(2)[:2], noise(3)
    elsewhere[1] = False  # an image without an object says nothing of where objects lie
    found = measures(values, values, values, objects, None, elsewhere)["similarity_others"]
    for b in range(B):
        count = int(objects[b].sum())
        picked = values[b] >= values[b].flatten().sort(descending=True).values[count - 1]
        masks = [objects[i] for i in range(B) if i != b] + [elsewhere[0]]
        ious = [float((picked & mask).sum() / (picked | mask).sum()) for mask in masks]
        assert float(found[b]) == pytest.approx(sum(ious) / len(ious), rel=1e-6)
    alone = measures(values[:1], values[:1], values[:1], objects[:1])
    assert alone["similarity_others"].isnan().all() and alone["similarity_top"].isfinite().all()


def test_activation_is_the_mean_magnitude_and_the_difference_that_of_unit_ranges() -> None:
    features = torch.randn(2, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    a = activation(features)
    assert float(a[1, 2, 0]) == pytest.approx(sum(abs(float(features[1, c, 2, 0])) for c in range(5)) / 5, rel=1e-6)
    unit = unit_range(a)
    assert unit.amin((1, 2)).tolist() == [0, 0] and unit.amax((1, 2)).tolist() == [1, 1]
    assert unit_range(torch.full((1, 2, 2), 3.0)).tolist() == [[[0, 0], [0, 0]]]
    objects = torch.zeros(2, 3, 3, dtype=torch.bool)
    objects[:, 0] = True
    other = 10 * a.flip(0) + 3  # scale and offset of a network's activation decide nothing
    found = measures(a, a, other, objects)
    expected = (unit - unit.flip(0)).abs()
    inside, outside = expected[:, 0].mean(1), expected[:, 1:].mean((1, 2))
    assert torch.allclose(found["difference_contrast"], (inside - outside).double(), atol=1e-6)


def test_adm_shows_the_maps_its_losses_use() -> None:
    views = []
    for seed in (0, 1):
        f = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(seed)).relu().requires_grad_()
        views.append(View(f.mean((2, 3)), "class_logits", {"last": f}, torch.zeros(2), torch.nn.Linear(4, 4)))
    shapes = {"prediction": (2, 4), "last": (2, 4, 3, 3), "head": (4, 4)}
    adm = registry.create("adm", {"adm": {"temperature": 0.3}})
    adm.parts = adm.build(shapes, shapes, tiny_facts())
    step = make_step(torch.tensor([0, 1]), 1.0, torch.Generator())
    maps = adm.maps(*views, step)  # type: ignore[attr-defined]
    assert adm.places == "last (identity)"  # type: ignore[attr-defined]
    s, t = (view.features["last"].detach() for view in views)
    for b, i, j in ((0, 1, 2), (1, 0, 0)):
        u, v = s[b, :, i, j], t[b, :, i, j]
        cosine = float(u @ v / (u.norm() * v.norm()).clamp_min(1e-8))
        assert float(maps.similarity[b, i, j]) == pytest.approx(cosine, abs=1e-6)
        for sign, weights in ((1, maps.consensus), (-1, maps.divergence)):
            total = sum(math.exp(sign * x / 0.3) for x in maps.similarity[b].flatten().tolist())
            assert float(weights[b, i, j]) == pytest.approx(9 * math.exp(sign * cosine / 0.3) / total, rel=1e-4)
    assert not any(each.requires_grad for each in maps)
    logged = adm.losses(*views, step).log["similarity_mean"]
    assert torch.equal(logged, maps.similarity.mean())


def test_weights_select_nothing_when_uniform_and_as_much_as_ranks_when_ranked() -> None:
    objects = random_objects()
    even = weight_measures(torch.ones(B, 4, 4), objects)
    assert even["weight_spread"].tolist() == [0.0] * B and even["weight_object"].tolist() == [1.0] * B
    ranked = weight_measures(rank_weights(noise(1, B, 4, 4)), objects)["weight_spread"]
    assert ranked.tolist() == pytest.approx([math.sqrt((16**2 - 1) / 3) / 16] * B)


def test_weights_on_the_object_are_held_against_those_of_the_whole_image() -> None:
    objects = torch.zeros(1, 4, 4, dtype=torch.bool)
    objects[:, :2] = True
    valid = torch.ones(1, 4, 4, dtype=torch.bool)
    valid[:, :, 3] = False
    similarity = torch.where(objects, 0.7, 0.2)
    weights = softmax_weights(similarity, 0.5, valid)
    inside, outside = math.exp(0.7 / 0.5), math.exp(0.2 / 0.5)
    expected = inside / ((inside + outside) / 2)  # half of the valid positions are the object's
    found = weight_measures(weights, objects, valid)
    assert float(found["weight_object"]) == pytest.approx(expected, rel=1e-6)
    assert float(found["weight_spread"]) == pytest.approx(expected - 1, rel=1e-6)
    assert weight_measures(weights, torch.zeros_like(objects))["weight_object"].isnan().all()
