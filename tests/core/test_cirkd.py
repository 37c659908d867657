"""CIRKD's three terms against slow literal loops, its queues against Python's deques."""

import math
from collections import deque

import pytest
import torch
import torch.nn.functional as F

from adm_core import registry
from adm_core.losses import cross_image
from adm_core.memory import ClassQueue
from adm_core.method import View
from adm_core.testing.networks import tiny_facts
from adm_core.testing.setup import Setup
from tests.core.toy import make_step

CLASSES, TAU = 3, 0.1


def maps(seed, *shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def valid_positions(images=3, height=3, width=4):
    """About two thirds of each image, and nothing of the last one."""
    valid = torch.rand(images, height, width, generator=torch.Generator().manual_seed(7)) < 0.7
    valid[-1] = False
    return valid


def labels(images=3, height=3, width=4):
    return torch.randint(CLASSES, (images, height, width), generator=torch.Generator().manual_seed(5))


def places(valid, image):
    return [tuple(place) for place in valid[image].nonzero().tolist()]


def unit(vector):
    norm = math.sqrt(sum(v * v for v in vector))
    return [v / max(norm, 1e-6) for v in vector]


def relations(pixel, others):
    """One pixel's distribution over others: the softmax of cosines."""
    cosines = [sum(a * b for a, b in zip(unit(pixel), unit(o), strict=True)) / TAU for o in others]
    exps = [math.exp(c - max(cosines)) for c in cosines]
    return [e / sum(exps) for e in exps]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def at(features, image, place):
    return features[image, :, place[0], place[1]].tolist()


def literal_minibatch(student, teacher, valid):
    pairs = []
    for i in range(len(student)):
        for j in range(len(student)):
            rows, columns = places(valid, i), places(valid, j)
            if not rows or not columns:
                continue
            each = []
            for place in rows:
                p, q = (relations(at(f, i, place), [at(f, j, other) for other in columns]) for f in (teacher, student))
                each.append(kl(p, q))
            pairs.append(sum(each) / len(each))
    return sum(pairs) / len(pairs)


def literal_contrast(student, teacher, valid, others):
    each = [
        kl(relations(at(teacher, i, place), others), relations(at(student, i, place), others))
        for i in range(len(student))
        for place in places(valid, i)
    ]
    return sum(each) / len(each)


@pytest.mark.parametrize("masked", [True, False])
def test_minibatch_term_is_the_literal_loop_over_pairs_of_images(masked):
    student, teacher = maps(0, 3, 6, 3, 4), maps(1, 3, 9, 3, 4)
    valid = valid_positions() if masked else torch.ones(3, 3, 4, dtype=torch.bool)
    ours = cross_image.pixel_relations(student, teacher, valid, TAU)
    assert float(ours) == pytest.approx(literal_minibatch(student, teacher, valid), rel=1e-4)


def test_memory_terms_are_the_literal_loop_over_pixels_and_embeddings():
    student, teacher, valid = maps(0, 3, 6, 3, 4), maps(1, 3, 6, 3, 4), valid_positions()
    contrast = F.normalize(maps(2, 10, 6), dim=1)
    there = torch.arange(10) % 3 > 0
    ours = cross_image.contrast_relations(student, teacher, valid, contrast, there, TAU)
    expected = literal_contrast(student, teacher, valid, contrast[there].tolist())
    assert float(ours) == pytest.approx(expected, rel=1e-4)


def terms(student, teacher, valid):
    contrast = F.normalize(maps(2, 10, student.shape[1], dtype=student.dtype), dim=1)
    there = torch.arange(10) % 3 > 0
    yield cross_image.pixel_relations(student, teacher, valid, TAU)
    yield cross_image.contrast_relations(student, teacher, valid, contrast, there, TAU)


def test_gradients_are_those_of_finite_differences():
    student, teacher = (maps(n, 3, 4, 3, 4, dtype=torch.float64) for n in range(2))
    for k in range(2):
        assert torch.autograd.gradcheck(
            lambda x, k=k: list(terms(x, teacher, valid_positions()))[k], student.requires_grad_()
        )


def test_a_perfect_match_and_a_void_batch_cost_nothing():
    student = maps(0, 3, 4, 3, 4).requires_grad_()
    for term in terms(student, student, valid_positions()):
        assert float(term.detach()) == pytest.approx(0.0, abs=1e-5)
    for term in terms(student, maps(1, 3, 4, 3, 4), torch.zeros(3, 3, 4, dtype=torch.bool)):
        term.backward()
        assert float(term.detach()) == 0.0
    assert bool((student.grad == 0).logical_or(student.grad.isfinite()).all())


def test_void_features_do_not_matter_and_get_no_gradient():
    valid, teacher = valid_positions(), maps(1, 3, 4, 3, 4)
    student = maps(0, 3, 4, 3, 4)
    other = torch.where(valid[:, None], student, maps(9, 3, 4, 3, 4)).requires_grad_()
    for one, two in zip(terms(student, teacher, valid), terms(other, teacher, valid), strict=True):
        assert float(one) == float(two.detach())
        (gradient,) = torch.autograd.grad(two, other)
        assert float((gradient * ~valid[:, None]).abs().sum()) == 0.0 < float(gradient.abs().sum())


@pytest.mark.parametrize("masked", [True, False])
def test_cells_are_means_over_their_valid_positions(masked):
    features, mask = maps(0, 2, 3, 4, 6), valid_positions(2, 4, 6)
    pooled, valid = cross_image.masked_pool(features, mask if masked else None, (2, 3))
    counts = mask if masked else torch.ones_like(mask)
    for b in range(2):
        for i in range(2):
            for j in range(3):
                cell = [(2 * i + u, 2 * j + v) for u in range(2) for v in range(2)]
                seen = [place for place in cell if counts[b, place[0], place[1]]]
                assert bool(valid[b, i, j]) == bool(seen)
                seen = seen or cell  # counts nowhere, but goes through the projector's batch norm
                mean = [sum(float(features[b, c, y, x]) for y, x in seen) / len(seen) for c in range(3)]
                assert pooled[b, :, i, j].tolist() == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize(
    ("size", "positions", "grid"),
    [((64, 128), 512, (16, 32)), ((64, 128), 8192, (64, 128)), ((8, 8), 512, (8, 8)), ((60, 60), 512, (22, 22))],
)
def test_grid_keeps_within_the_positions(size, positions, grid):
    assert cross_image.grid_within(size, positions) == grid


@pytest.mark.parametrize(("size", "positions"), [((1, 100), 7), ((100, 1), 7), ((3, 500), 1), ((50, 70), 2)])
def test_grid_of_odd_ratios_has_at_least_a_cell_and_never_too_many(size, positions):
    height, width = cross_image.grid_within(size, positions)
    assert 1 <= height * width <= positions


def batch_of_rows(seed, count, width=2):
    """Candidates of each class, of which some are not there."""
    there = torch.rand(CLASSES, count, generator=torch.Generator().manual_seed(seed)) < 0.6
    return maps(seed, CLASSES, count, width), there


def in_order(queue, c):
    """A queue's entries, oldest first."""
    written, size = int(queue.written[c]), queue.size
    slots = range(max(0, written - size), written)
    return [queue.entries[c * size + slot % size].tolist() for slot in slots]


@pytest.mark.parametrize("count", [1, 3, 7, 12])
def test_queues_are_deques(count):
    """Twelve candidates at once overflow a queue of seven in one push."""
    queue, deques = ClassQueue(CLASSES, 7, 2), [deque(maxlen=7) for _ in range(CLASSES)]
    for seed in range(9):
        rows, there = batch_of_rows(seed, count)
        queue.push(rows, there)
        for c, own in enumerate(deques):
            own.extend(row.tolist() for row, is_there in zip(rows[c], there[c], strict=True) if is_there)
            assert in_order(queue, c) == list(own)
            assert int(queue.filled()[c]) == len(own)


@pytest.mark.parametrize("count", [4, 12])
def test_a_sample_is_of_what_the_queue_would_hold_and_changes_nothing(count):
    queue = ClassQueue(CLASSES, 7, 2)
    for seed in range(6):
        rows, there = batch_of_rows(seed, count)
        before = {name: value.clone() for name, value in queue.state_dict().items()}
        found, valid = queue.sample(100, rows, there, torch.Generator().manual_seed(0))
        assert all(torch.equal(value, before[name]) for name, value in queue.state_dict().items())
        queue.push(rows, there)
        for c, (own, is_there) in enumerate(zip(found.chunk(CLASSES), valid.chunk(CLASSES), strict=True)):
            assert sorted(own[is_there].tolist()) == sorted(in_order(queue, c))


def test_samples_are_without_replacement_of_even_chances_and_follow_the_generator():
    queue = ClassQueue(1, 10, 1)
    queue.push(torch.arange(10.0).view(1, 10, 1), torch.ones(1, 10, dtype=torch.bool))
    none = torch.zeros(1, 1, 1), torch.zeros(1, 1, dtype=torch.bool)
    drawn = [queue.sample(3, *none, torch.Generator().manual_seed(seed)) for seed in range(400)]
    again = queue.sample(3, *none, torch.Generator().manual_seed(0))
    assert torch.equal(again[0], drawn[0][0])
    assert all(bool(there.all()) and len(set(found.flatten().tolist())) == 3 for found, there in drawn)
    counts = torch.cat([found.flatten() for found, _ in drawn]).long().bincount(minlength=10)
    assert bool((counts - 120).abs().max() < 50)


def test_a_queue_in_a_checkpoint_goes_on_where_it_was():
    one, two = (ClassQueue(CLASSES, 7, 2) for _ in range(2))
    for seed in range(4):
        one.push(*batch_of_rows(seed, 4))
    two.load_state_dict(one.state_dict())
    for queue in (one, two):
        queue.push(*batch_of_rows(9, 4))
    assert torch.equal(one.entries, two.entries) and torch.equal(one.written, two.written)


def test_queued_pixels_belong_to_their_class_and_are_as_many_as_there_may_be():
    """The reference stores the first pixels of a shuffled raster, whose class is any."""
    features, target, mask = maps(0, 3, 5, 12, 16), labels(3, 6, 8), valid_positions(3, 6, 8)
    rows, there = cross_image.choose_pixels(features, target, mask, CLASSES, 4, torch.Generator().manual_seed(0))
    fine = [t.repeat_interleave(2, 1).repeat_interleave(2, 2) for t in (target, mask)]
    assert rows.shape == (CLASSES, 3 * 4, 5)
    for c in range(CLASSES):
        for image in range(3):
            pixels = F.normalize(features[image].flatten(1), dim=0).T[((fine[0] == c) & fine[1])[image].flatten()]
            own = slice(4 * image, 4 * image + 4)
            chosen = [tuple(row) for row in rows[c, own][there[c, own]].tolist()]
            assert len(set(chosen)) == len(chosen) == min(4, len(pixels))
            assert set(chosen) <= {tuple(row) for row in pixels.tolist()}


def test_queued_pixels_are_drawn_at_random():
    features, target = maps(0, 1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)

    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        return cross_image.choose_pixels(features, target, None, CLASSES, 3, generator)[0][0].tolist()

    assert drawn(0) == drawn(0)
    assert len({tuple(row) for seed in range(40) for row in drawn(seed)}) == 16


def test_regions_are_means_of_the_unit_embeddings_of_a_class():
    features, target, mask = maps(0, 3, 5, 3, 4), labels(), valid_positions()
    rows, there = cross_image.class_regions(features, target, mask, CLASSES)
    for c in range(CLASSES):
        for image in range(3):
            pixels = [unit(at(features, image, p)) for p in places(mask & (target == c), image)]
            assert bool(there[c, image]) == bool(pixels)
            if pixels:
                mean = unit([sum(column) / len(pixels) for column in zip(*pixels, strict=True)])
                assert rows[c, image].tolist() == pytest.approx(mean, abs=1e-5)


def view(features):
    b, _, h, w = features.shape
    return View(torch.zeros(b, CLASSES, h, w), "class_logits", {"penultimate": features}, torch.zeros(b, h, w))


def method(student, teacher, **settings):
    made = registry.create("cirkd", {"cirkd": settings})
    shapes = [
        {"prediction": (b, CLASSES, h, w), "penultimate": (b, c, h, w)} for b, c, h, w in (student.shape, teacher.shape)
    ]
    assert made.supports(*shapes, "offline") is None
    torch.manual_seed(0)
    made.parts = made.build(*shapes, tiny_facts())
    return made


def test_three_steps_are_the_literal_terms_with_a_deque_per_class():
    """Queues so short that they wrap, samples so large that they are whole."""
    weights = {"minibatch": 1.0, "pixel": 0.1, "region": 0.2}
    cirkd = method(maps(0, 3, 4, 3, 4), maps(0, 3, 6, 3, 4), pixel_queue=7, region_queue=2, queued=5, region=0.2)
    memories = {
        "pixel": [deque(maxlen=7) for _ in range(CLASSES)],
        "region": [deque(maxlen=2) for _ in range(CLASSES)],
    }
    target, mask = labels(), valid_positions()
    for seed in range(3):
        student, teacher = maps(10 + seed, 3, 4, 3, 4), maps(20 + seed, 3, 6, 3, 4)
        step = make_step(target, 0.5, torch.Generator().manual_seed(seed), mask)
        ours = cirkd.losses(view(student), view(teacher), step).student
        pixels = cross_image.choose_pixels(teacher, target, mask, CLASSES, 5, torch.Generator().manual_seed(seed))
        for name, rows in (("pixel", pixels), ("region", cross_image.class_regions(teacher, target, mask, CLASSES))):
            for queue, new, there in zip(memories[name], *rows, strict=True):
                queue.extend(new[there].tolist())
        projected = cirkd.parts["projector"](student)
        expected = {"minibatch": literal_minibatch(student, teacher, mask)}
        for name, queues in memories.items():
            everything = [row for queue in queues for row in queue]
            expected[name] = literal_contrast(projected, teacher, mask, everything)
        for name, weight in weights.items():
            assert float(ours[name].detach()) == pytest.approx(weight * expected[name], rel=1e-3), (seed, name)
        cirkd.after_step()


def test_the_projector_is_two_convolutions_around_norm_and_relu():
    projector = method(maps(0, 3, 4, 3, 4), maps(0, 3, 6, 3, 4)).parts["projector"]
    x, (first, norm, _, last) = maps(1, 3, 4, 3, 4), projector
    hidden = torch.einsum("oc,bchw->bohw", first.weight[:, :, 0, 0], x)
    mean, spread = hidden.mean((0, 2, 3), keepdim=True), hidden.var((0, 2, 3), unbiased=False, keepdim=True)
    hidden = ((hidden - mean) / (spread + norm.eps).sqrt()).clamp_min(0)
    expected = torch.einsum("oc,bchw->bohw", last.weight[:, :, 0, 0], hidden)
    assert torch.allclose(projector(x), expected, atol=1e-5)


def test_maps_larger_than_the_positions_are_compared_on_a_grid():
    student, teacher, mask = maps(0, 3, 4, 6, 8), maps(1, 3, 6, 12, 16), valid_positions(3, 3, 4)
    step = make_step(labels(3, 12, 16), 0.5, torch.Generator(), mask.repeat_interleave(4, 1).repeat_interleave(4, 2))
    ours = method(student, teacher, positions=12, pixel=0.0, region=0.0).losses(view(student), view(teacher), step)
    cells = F.avg_pool2d(student, 2), F.avg_pool2d(teacher, 4)
    assert float(ours.student["minibatch"]) == pytest.approx(literal_minibatch(*cells, mask), rel=1e-4)


def test_every_batch_of_an_accumulated_step_joins_the_queues_once_the_step_is_done():
    features = maps(0, 3, 4, 3, 4), maps(0, 3, 6, 3, 4)
    cirkd, target, mask = method(*features), labels(), valid_positions()
    for _ in range(2):
        cirkd.losses(*(view(f) for f in features), make_step(target, 0.5, torch.Generator(), mask))
        assert int(cirkd.parts["pixel"].written.sum()) == 0
    cirkd.after_step()
    assert int(cirkd.parts["pixel"].written.sum()) == 2 * int(mask.sum())
    cirkd.after_step()
    assert int(cirkd.parts["pixel"].written.sum()) == 2 * int(mask.sum())


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"pixel": 0.0}, {"projector", "region"}),
        ({"region": 0.0}, {"projector", "pixel"}),
        ({"pixel": 0.0, "region": 0.0}, set()),
    ],
)
def test_a_term_of_weight_zero_is_left_out_with_its_memory(settings, parts):
    bench = Setup("cirkd", "offline", {"cirkd": settings}, form="pixels")
    assert set(bench.distiller.parts) == parts
    assert set(bench.losses().student) == {"minibatch", *parts} - {"projector"}


def test_the_memory_travels_in_checkpoints():
    bench = Setup("cirkd", "offline", {}, form="pixels")
    bench.step(0)
    state = bench.distiller.state_dict()
    assert int(state["parts.pixel.written"].sum()) > 0 and int(state["parts.region.written"].sum()) > 0
