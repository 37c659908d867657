"""CIRKDv2 against literal loops: context of positions, relations between channels, and its queue of channels."""

import pytest
import torch

from adm_core.attention import GlobalContext
from adm_core.losses import cross_image
from adm_core.testing.setup import Setup
from tests.core.literal import numbers
from tests.core.test_methods_relations import agree

B, C, H, W, TAU = 3, 4, 2, 3, 0.5
STUDENT, TEACHER, WEIGHTS = numbers(0, B, C, H, W), numbers(1, B, C, H, W), numbers(2, B, C, H, W)
VALID = torch.tensor([[[1, 1, 0], [1, 0, 1]], [[0, 0, 0], [0, 0, 0]], [[1, 1, 1], [1, 1, 1]]]).bool()
KEPT = (0, 2)
"""The images that have a valid position."""


def vector(maps, image, channel):
    """One channel over the valid positions of an image, of length one."""
    values = [maps[image, channel, i, j] for i in range(H) for j in range(W) if VALID[image, i, j]]
    places = [(i, j) for i in range(H) for j in range(W) if VALID[image, i, j]]
    length = sum(v * v for v in values).sqrt()
    return {place: v / length for place, v in zip(places, values, strict=True)}


def dot(a, b):
    return sum(a[place] * b[place] for place in a if place in b)


def softmax(values):
    exps = [v.exp() for v in values]
    return [e / sum(exps) for e in exps]


def divergence(teacher, student):
    return sum(t * (t / s).log() for t, s in zip(softmax(teacher), softmax(student), strict=True))


def test_relations_of_channels_are_a_loop_over_pairs_of_images_and_channels():
    def literal(student):
        every = [{(b, c): vector(m, b, c) for b in KEPT for c in range(C)} for m in (student, TEACHER)]
        total = 0.0
        for i in KEPT:
            for j in KEPT:
                for c in range(C):
                    own, other = ([dot(v[i, c], v[j, d]) / TAU for d in range(C)] for v in every)
                    total += divergence(other, own) / C
        return total / len(KEPT) ** 2

    def ours(student):
        (a, there), (b, _) = (cross_image.as_positions(m, VALID) for m in (student, TEACHER))
        return cross_image.pixel_relations(a, b, there, TAU)

    agree(ours, literal, STUDENT)


def test_relations_to_a_queue_of_channels_are_a_loop_over_its_entries():
    entries = torch.nn.functional.normalize(numbers(3, 7, H * W), dim=1)
    there = torch.tensor([True, True, False, True, True, False, True])

    def literal(student):
        total, kept = 0.0, [entry for entry, is_there in zip(entries, there, strict=True) if is_there]
        for b in KEPT:
            for c in range(C):
                own, other = (
                    [sum(v * entry[W * i + j] for (i, j), v in vector(m, b, c).items()) / TAU for entry in kept]
                    for m in (student, TEACHER)
                )
                total += divergence(other, own)
        return total / (len(KEPT) * C)

    def ours(student):
        (a, valid), (b, _) = (cross_image.as_positions(m, VALID) for m in (student, TEACHER))
        return cross_image.contrast_relations(a, b, valid, entries, there, TAU)

    agree(ours, literal, STUDENT)


def test_distance_of_channels_is_a_loop_over_unit_vectors():
    def literal(student):
        total = 0.0
        for b in KEPT:
            for c in range(C):
                one, two = vector(student, b, c), vector(TEACHER, b, c)
                total += sum((one[place] - two[place]) ** 2 for place in one) / (H * W)
        return total / (len(KEPT) * C)

    def ours(student):
        (a, there), (b, _) = (cross_image.as_positions(m, VALID) for m in (student, TEACHER))
        return cross_image.unit_distance(a, b, there)

    agree(ours, literal, STUDENT)


def convolved(module, x):
    """1×1 convolution, normalisation over batch and positions, ReLU, written out."""
    out = torch.einsum("oc,bcn->bon", module[0].weight[:, :, 0, 0], x)
    mean = out.mean((0, 2), keepdim=True)
    spread = ((out - mean) ** 2).mean((0, 2), keepdim=True)
    return ((out - mean) / (spread + module[1].eps).sqrt()).clamp_min(0)


def test_context_is_gathered_position_by_position():
    torch.manual_seed(0)
    module = GlobalContext(C).double()

    def literal(x):
        flat, (q, k, v) = x.flatten(2), module.nodes.weight[:, :, 0, 0].split(C // 2)
        gathered = []
        for image in flat:
            columns = []
            for p in range(H * W):
                scores = [(q @ image[:, p]) @ (k @ image[:, o]) / (C // 2) ** 0.5 for o in range(H * W)]
                shares = softmax(scores)
                columns.append(sum(share * (v @ image[:, o]) for o, share in enumerate(shares)))
            gathered.append(torch.stack(columns, 1))
        context = convolved(module.gathered, torch.stack(gathered))
        out = convolved(module.joined, torch.cat([flat, context], 1))
        return (out * WEIGHTS.flatten(2)).sum()

    agree(lambda x: (module(x) * WEIGHTS).sum(), literal, STUDENT)


def test_chosen_channels_are_those_of_images_that_show_something():
    rows, there = cross_image.as_positions(TEACHER, VALID)
    chosen, kept = cross_image.choose_rows(rows, there, 10, torch.Generator().manual_seed(0))
    known = {tuple(round(v, 6) for v in torch.nn.functional.normalize(rows[b, :, c, 0], dim=0).tolist())
             for b in KEPT for c in range(C)}  # fmt: skip
    found = {tuple(round(v, 6) for v in row) for row in chosen[0][kept[0]].tolist()}
    assert chosen.shape == (1, 10, H * W) and int(kept.sum()) == 8 and found == known


def test_the_recipe_has_cirkds_terms_on_embeddings_with_context_and_a_queue_that_fills():
    settings = {"positions": 16, "queued_channels": 40, "channel_queue": 100, "hint": 2.0, "channel_match": 7.0}
    bench = Setup("cirkdv2", "offline", {"cirkdv2": settings}, form="pixels")
    batch, parts = bench.batch(0), bench.distiller.parts
    views, found = bench.distiller.views(batch)[0], bench.losses().student
    of_cirkd = Setup("cirkd", "offline", {}, form="pixels").losses().student
    assert set(found) == {*of_cirkd, "hint", "channel_minibatch", "channel_memory", "channel_match"}
    grids = [cross_image.masked_pool(views[r].features["penultimate"], batch.mask, (4, 4)) for r in views]
    (own, valid), (other, _) = grids
    own = parts["context"](own)
    error = (parts["hint"](own) - other).pow(2).mean(1)[valid].mean()
    assert float(found["hint"].detach()) == pytest.approx(2 * float(error.detach()), rel=1e-4)
    projected, there = cross_image.as_positions(parts["channel_projector"](own), valid)
    match = cross_image.unit_distance(projected, cross_image.as_positions(other, valid)[0], there)
    assert float(found["channel_match"].detach()) == pytest.approx(7 * float(match.detach()), rel=1e-4)
    for seed, written in enumerate((40, 80, 120)):
        bench.step(seed)
        filled = int(parts["channel"].filled())
        assert int(parts["channel"].written) >= written and filled == min(int(parts["channel"].written), 100)
