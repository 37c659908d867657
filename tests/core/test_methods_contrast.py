"""CRD: its loss against a literal loop over a tiny bank, its draws, its memories, and a training that resumes."""

import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from adm_core import registry
from adm_core.batch import Batch
from adm_core.errors import Unsupported
from adm_core.losses import contrast
from adm_core.memory import ExampleBank, NegativeSampler
from adm_core.method import Facts, Step, View
from adm_core.recipe import Optimizer, Recipe
from adm_core.testing.setup import Setup
from tests.core.toy import ToyTask, trainer, weights

N, WIDTH, TAU = 7, 4, 0.07
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 2])


def rows(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def length_one(vector):
    length = math.sqrt(sum(v * v for v in vector))
    return [v / length for v in vector]


def literal(anchors, bank, chosen):
    """The loss as the authors' code computes it, number by number; Z from these very anchors and entries."""
    score = [
        [math.exp(sum(a * m for a, m in zip(anchor, bank[j], strict=True)) / TAU) for j in entries]
        for anchor, entries in zip(anchors, chosen, strict=True)
    ]
    flat = [value for row in score for value in row]
    z = sum(flat) / len(flat) * len(bank)
    total = 0.0
    for row in score:
        noise = (len(row) - 1) / len(bank)
        own, *others = (value / z for value in row)
        total -= math.log(own / (own + noise)) + sum(math.log(noise / (other + noise)) for other in others)
    return total / len(anchors)


def test_losses_are_the_literal_loop_in_both_directions():
    method = registry.create("crd", {"crd": {"negatives": 3, "width": WIDTH, "weight": 2.0}})
    shapes = {"prediction": (2, 3), "penultimate": (2, 5)}, {"prediction": (2, 3), "penultimate": (2, 6)}
    method.take(method.build(*shapes, Facts(N, 3, LABELS, 10, 2)))
    index, features = torch.tensor([5, 1]), {"student": rows(0, 2, 5), "teacher": rows(1, 2, 6)}
    views = {
        role: View(torch.zeros(2, 3), "class_logits", {"penultimate": f}, torch.zeros(2))
        for role, f in features.items()
    }
    images = torch.zeros(2, 3, 1, 1)
    step = Step(Batch(images, images, LABELS[index], index), 0.0, torch.Generator().manual_seed(0))
    found = method.losses(views["student"], views["teacher"], step)

    chosen = method.parts["negatives"].own_and_others(index, torch.Generator().manual_seed(0)).tolist()
    embedded = {role: [length_one(e) for e in method.parts[role](f).tolist()] for role, f in features.items()}
    banks = {role: method.parts[f"{role}_bank"].entries.tolist() for role in features}
    ours = literal(embedded["student"], banks["teacher"], chosen)
    theirs = literal(embedded["teacher"], banks["student"], chosen)
    assert float(found.student["crd"].detach()) == pytest.approx(2 * ours, rel=1e-4)
    assert float(found.parts["crd"].detach()) == pytest.approx(2 * theirs, rel=1e-4)

    method.after_step()
    for role, before in banks.items():
        after = method.parts[f"{role}_bank"].entries
        for i, own in zip(index.tolist(), embedded[role], strict=True):
            moved = length_one([0.5 * old + 0.5 * new for old, new in zip(before[i], own, strict=True)])
            assert after[i].tolist() == pytest.approx(moved, abs=1e-5)
        others = [i for i in range(N) if i not in index]
        assert torch.equal(after[others], torch.tensor(before)[others])


def test_the_loss_is_that_of_a_classifier_between_own_and_noise():
    """With the classifier's logit log P - log (K/N) it is binary cross-entropy, summed over entries."""
    log_ratios = rows(0, 4, 6) - 3
    logit = log_ratios - math.log(5 / 9)
    own = F.one_hot(torch.zeros(4, dtype=torch.int64), 6).float()
    expected = F.binary_cross_entropy_with_logits(logit, own, reduction="none").sum(1).mean()
    assert float(contrast.noise_contrast(log_ratios, 9)) == pytest.approx(float(expected), rel=1e-6)


def test_z_is_fixed_by_the_first_batch():
    bank, chosen = ExampleBank(N, WIDTH, 0.5), torch.tensor([[0, 1, 2], [3, 4, 5]])
    anchors = F.normalize(rows(0, 2, WIDTH), dim=1)
    ratios = bank.log_ratios(anchors, chosen, TAU)
    assert float(ratios.exp().mean()) == pytest.approx(1 / N, rel=1e-5)
    fixed = bank.log_normaliser.clone()
    bank.log_ratios(F.normalize(rows(1, 2, WIDTH), dim=1), chosen, TAU)
    assert torch.equal(bank.log_normaliser, fixed)


def test_negatives_are_uniform_among_other_classes_and_differ():
    sampler, index, generator = NegativeSampler(LABELS, 2), torch.tensor([6, 0]), torch.Generator().manual_seed(0)
    seen = [Counter(), Counter()]
    for _ in range(3000):
        own, *others = sampler.own_and_others(index, generator).T.tolist()
        assert own == index.tolist()
        for place, pair in enumerate(zip(*others, strict=True)):
            assert len(set(pair)) == 2
            seen[place].update(pair)
    for counts, label in zip(seen, LABELS[index].tolist(), strict=True):
        allowed = [i for i in range(N) if LABELS[i] != label]
        assert sorted(counts) == allowed
        assert all(count == pytest.approx(6000 / len(allowed), rel=0.1) for count in counts.values())


def test_there_are_at_most_as_many_negatives_as_lie_outside_the_largest_class():
    assert NegativeSampler(LABELS, 16_384).count == 4
    assert NegativeSampler(torch.arange(N), 16_384).count == N - 1  # labels that are not to be had


def test_a_training_set_of_one_class_is_declined():
    shapes = {"prediction": (2, 3), "penultimate": (2, 5)}
    with pytest.raises(Unsupported, match="all training examples are of one"):
        registry.create("crd").build(shapes, shapes, Facts(N, 3, torch.zeros(N, dtype=torch.int64), 10, 2))


def test_an_example_finds_itself_among_others_after_training():
    bench = Setup("crd", "offline", {"crd": {"negatives": 20}})

    def rank_of_own():
        d, batch = bench.distiller, bench.batch(0)
        with torch.no_grad():
            seen = d.views(batch)[0]["student"].features["penultimate"]
            scores = F.normalize(d.parts["student"](seen), dim=1) @ d.parts["teacher_bank"].entries.T
        return float((scores >= scores.gather(1, batch.index[:, None])).sum(1).float().mean())

    before = rank_of_own()
    for _ in range(40):
        bench.step(0)
    assert rank_of_own() < 0.3 * before


RECIPE = Recipe(epochs=2, batch_size=16, optimizer=Optimizer(name="sgd", lr=0.05))


def test_a_training_that_is_cut_off_resumes_to_the_same_weights_and_banks(tmp_path):
    whole = trainer(RECIPE, "kd+crd", "offline")
    whole.run()
    file = tmp_path / "c.pt"
    first = trainer(RECIPE, "kd+crd", "offline", checkpoint_file=file, checkpoint_seconds=0.0)
    for batch in ToyTask().batches(0, 0):
        first.distiller.train()
        first.step(batch)
    first.end_epoch(1)
    again = trainer(RECIPE, "kd+crd", "offline", checkpoint_file=file)
    again.run()
    expected, found = weights(whole), weights(again)
    assert expected.keys() == found.keys() and all(torch.equal(found[key], expected[key]) for key in expected)
    assert float(expected["parts.crd_student_bank.log_normaliser"]) > 0
