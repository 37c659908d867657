"""MasKD against literal loops: masks of tokens, how they overlap, distances within them, and the two phases."""

import pytest
import torch
import torch.nn.functional as F

from adm_core.errors import Unsupported
from adm_core.losses import tokens
from adm_core.testing.setup import Setup
from tests.core.literal import numbers
from tests.core.test_methods_relations import agree

B, T, C, H, W = 3, 4, 5, 3, 4
STUDENT, TEACHER, TOKENS = numbers(0, B, C, H, W), numbers(1, B, C, H, W), numbers(2, T, C)
MASKED = torch.rand(B, H, W, generator=torch.Generator().manual_seed(3)) < 0.6
MASKED[1] = False
EVERYWHERE = torch.ones(B, H, W, dtype=torch.bool)


def masks_by_loop(token, image, places):
    """σ of the dot product of one token with the features of each place."""
    return [1 / (1 + (-sum(token[c] * image[c, i, j] for c in range(C))).exp()) for i, j in places]


def images(valid):
    for b in range(B):
        places = [(i, j) for i in range(H) for j in range(W) if valid[b, i, j]]
        if places:
            yield b, places


@pytest.mark.parametrize("valid", [EVERYWHERE, MASKED])
def test_overlap_is_a_loop_over_pairs_of_masks(valid):
    def literal(given):
        each = []
        for b, places in images(valid):
            masks = [masks_by_loop(token, TEACHER[b], places) for token in given]
            for i in range(T):
                for j in range(T):
                    if i != j:
                        both = sum(x * y for x, y in zip(masks[i], masks[j], strict=True))
                        alone = sum(x * x for x in masks[i]) + sum(y * y for y in masks[j])
                        each.append(2 * both / alone)
        return sum(each) / len(each)

    mask = None if valid is EVERYWHERE else valid
    agree(lambda t: tokens.dice_overlap(tokens.token_masks(t, TEACHER), mask), literal, TOKENS)


@pytest.mark.parametrize("valid", [EVERYWHERE, MASKED])
def test_masked_distance_is_a_loop_over_tokens_and_channels(valid):
    def literal(student):
        each = []
        for b, places in images(valid):
            for token in TOKENS:
                masks = masks_by_loop(token, TEACHER[b], places)
                for c in range(C):
                    within = sum(
                        (m * student[b, c, i, j] - m * TEACHER[b, c, i, j]) ** 2
                        for m, (i, j) in zip(masks, places, strict=True)
                    )
                    each.append(within / (sum(masks) + 1e-5))
        return 0.5 * sum(each) / len(each)

    mask = None if valid is EVERYWHERE else valid
    found = tokens.token_masks(TOKENS, TEACHER)
    agree(lambda s: tokens.masked_distance(s, TEACHER, found, mask), literal, STUDENT)


def test_masks_that_are_alike_overlap_wholly_and_apart_not_at_all():
    whole = torch.ones(2, 3, 4, 4)
    apart = torch.zeros(1, 2, 2, 2)
    apart[0, 0, 0], apart[0, 1, 1] = 1.0, 1.0
    assert float(tokens.dice_overlap(whole)) == pytest.approx(1.0)
    assert float(tokens.dice_overlap(apart)) == 0.0
    error = float(tokens.masked_distance(STUDENT.float(), TEACHER.float(), torch.ones(B, T, H, W)))
    assert error == pytest.approx(0.5 * float((STUDENT - TEACHER).pow(2).mean()), rel=1e-5)


def test_tokens_learn_while_the_student_rests_and_rest_while_it_learns():
    bench = Setup("maskd", "offline", {"maskd": {"share": 0.5}}, form="pixels")
    student, own = bench.distiller.student, bench.distiller.parts["tokens"]["of"]

    def state():
        return own.detach().clone(), torch.cat([p.detach().flatten() for p in student.parameters()])

    before = state()
    for seed in range(3):
        bench.step(seed, 0.2)
    between = state()
    for seed in range(3):
        bench.step(seed, 0.7)
    after = state()
    assert not torch.equal(before[0], between[0]) and torch.equal(before[1], between[1])
    assert torch.equal(between[0], after[0]) and not torch.equal(between[1], after[1])


def test_tokens_learn_the_task_and_to_part():
    """One batch again and again: cross-entropy of the masked logits and overlap fall, together and each."""
    bench = Setup("maskd", "offline", {}, form="pixels")
    adam = torch.optim.Adam(bench.distiller.parts.parameters(), lr=0.3)
    first, *_, last = [step_of(bench, adam) for _ in range(30)]
    assert sum(last) < sum(first) - 0.05 and last[0] < first[0] and last[1] < first[1]


def step_of(bench, adam):
    found = bench.losses(0, 0.1).parts
    sum(found.values()).backward()
    adam.step()
    adam.zero_grad()
    return float(found["task"].detach()), float(found["overlap"].detach())


def test_the_first_phase_is_cross_entropy_of_the_masked_logits():
    bench = Setup("maskd", "offline", {}, form="pixels")
    batch = bench.batch(0)
    logits = bench.distiller.views(batch)[0]["teacher"].prediction
    masks = tokens.token_masks(bench.distiller.parts["tokens"]["of"], logits)
    chosen = sum(masks[:, i, None] * logits for i in range(8))
    target, valid = batch.target[:, ::2, ::2], batch.mask[:, ::2, ::2]
    expected = F.cross_entropy(chosen, target, reduction="none")[valid].mean()
    found = bench.losses(0, 0.1)
    assert float(found.parts["task"].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert not found.student and found.student_task == 0.0


def test_auxiliary_predictions_are_masked_by_the_same_tokens():
    bench = Setup("maskd", "offline", {"maskd": {"weight": 3.0, "auxiliary": 0.5}}, form="pixels")
    batch, own = bench.batch(0), bench.distiller.parts["tokens"]["of"]
    views = bench.distiller.views(batch)[0]
    s, t = (views[role].features["auxiliary1"] for role in ("student", "teacher"))
    expected = 1.5 * float(tokens.masked_distance(s, t, tokens.token_masks(own, t), batch.mask).detach())
    assert float(bench.losses(0, 0.5).student["masked_auxiliary"].detach()) == pytest.approx(expected, rel=1e-5)
    alone = Setup("maskd", "offline", {"maskd": {"auxiliary": 0.0}}, form="pixels").losses(0, 0.5)
    assert set(alone.student) == {"masked"}


def test_images_without_positions_are_declined():
    with pytest.raises(Unsupported, match="masks choose positions"):
        Setup("maskd", "offline", {}, form="images")
