"""EmbedDistill: its terms against a literal loop, the identity projector, and what is deployed and trained."""

import math

import pytest
import torch
from torch import nn

from adm_core import registry
from adm_core.method import View
from adm_core.reuse import ReusedClassifier
from adm_core.testing.networks import tiny_batch, tiny_facts, tiny_network
from adm_core.testing.setup import Setup
from tests.core.literal import kl, numbers, softmax
from tests.core.resuming import whole_and_resumed
from tests.core.toy import make_step

B, K, WIDTHS, TARGET = 4, 5, (3, 6), torch.tensor([1, 0, 4, 1])


def pair():
    head = nn.Linear(WIDTHS[1], K).double()
    for seed, p in enumerate(head.parameters()):
        p.data = numbers(seed, *p.shape)
    maps = [numbers(5 + n, B, width, 2, 2).requires_grad_() for n, width in enumerate(WIDTHS)]
    own = View(numbers(7, B, K), "class_logits", {"last": maps[0]}, torch.zeros(B))
    other = View(head(maps[1].mean((2, 3))), "class_logits", {"last": maps[1]}, torch.zeros(B), head)
    return maps, [own, other]


def test_terms_and_gradients_are_the_literal_ones():
    settings = {"embedding_weight": 2.0, "score_weight": 3.0, "temperature": 2.0}
    method, (maps, views) = registry.create("embeddistill", {"embeddistill": settings}), pair()
    shapes = ({"last": m.shape} for m in maps)
    method.take(method.build(*shapes, tiny_facts()))
    projector = method.parts["projector"].double()
    found = method.losses(*views, make_step(TARGET, 0.5, torch.Generator()))

    weight, bias = views[1].head.weight.detach(), views[1].head.bias.detach()
    distances, labels, divergences = [], [], []
    for s, t, target, logits in zip(maps[0], maps[1].detach(), TARGET.tolist(), views[1].prediction, strict=True):
        f_s, f_t = (sum(f[:, i, j] for i in range(2) for j in range(2)) / 4 for f in (s, t))
        embedded = projector.weight[:, :, 0, 0] @ f_s + projector.bias
        distances.append(sum((e - f) ** 2 for e, f in zip(embedded, f_t, strict=True)) ** 0.5)
        scores = [
            sum(w * e for w, e in zip(row, embedded, strict=True)) + b for row, b in zip(weight, bias, strict=True)
        ]
        logs = [z - sum((y).exp() for y in scores).log() for z in scores]
        labels.append(-logs[target])
        soft = [z / 2 - sum((y / 2).exp() for y in scores).log() for z in scores]
        p_t = softmax(logits.tolist(), 2.0)
        divergences.append(4 * sum(p * (math.log(p) - q) for p, q in zip(p_t, soft, strict=True)))
    expected = {
        "labels": sum(labels) / B, "scores": 3 * sum(divergences) / B, "embeddings": 2 * sum(distances) / B,
    }  # fmt: skip
    trained = [maps[0], *projector.parameters()]
    assert found.student_task == 0 and found.student.keys() == expected.keys()
    for name, term in found.student.items():
        assert float(term.detach()) == pytest.approx(float(expected[name].detach()), rel=1e-6)
        both = (torch.autograd.grad(x, trained, retain_graph=True) for x in (term, expected[name]))
        for ours, theirs in zip(*both, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
        assert torch.autograd.grad(term, maps[1], retain_graph=True, allow_unused=True) == (None,)


def test_a_teacher_behind_an_identity_projector_is_itself():
    setup = Setup("embeddistill", "offline", {}, widths=(8, 8))
    teacher = setup.distiller.networks["teacher"]
    setup.distiller.student.load_state_dict(tiny_network(8, seed=2).module.state_dict())  # the teacher's, unfolded
    projector = setup.distiller.parts["projector"]
    with torch.no_grad():
        projector.weight.copy_(torch.eye(32)[:, :, None, None])
        projector.bias.zero_()
    setup.distiller.student.eval()
    terms = setup.losses().student
    images, target = tiny_batch(0).student_input, tiny_batch(0).target
    logits = teacher.module(images)
    expected = -sum(math.log(softmax(row)[y]) for row, y in zip(logits.tolist(), target.tolist(), strict=True)) / 12
    assert float(terms["labels"].detach()) == pytest.approx(expected, rel=1e-5)
    assert float(terms["scores"].detach()) == pytest.approx(0, abs=1e-6)
    assert float(terms["embeddings"].detach()) == pytest.approx(0, abs=1e-5)
    deployed = setup.distiller.deployed(setup.distiller.networks)["student"].module.eval()
    assert isinstance(deployed, ReusedClassifier)
    torch.testing.assert_close(deployed(images), logits, rtol=1e-5, atol=1e-6)


def test_the_divergence_of_scores_has_the_papers_gradient_at_equal_embeddings():
    """Where the embeddings agree the distance has no direction, and its gradient must be 0, not NaN."""
    method, (maps, views) = registry.create("embeddistill"), pair()
    method.take({"projector": nn.Identity()})
    same = View(views[0].prediction, "class_logits", {"last": maps[1].detach().requires_grad_()}, torch.zeros(B))
    terms = method.losses(same, views[1], make_step(TARGET, 0.5, torch.Generator())).student
    assert kl(*(softmax(views[1].prediction[0].tolist()),) * 2) == 0 == float(terms["embeddings"].detach())
    (gradient,) = torch.autograd.grad(terms["embeddings"], same.features["last"])
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_what_is_deployed_is_trained_scored_and_resumed(tmp_path, monkeypatch):
    whole, trained = whole_and_resumed(tmp_path, monkeypatch, "embeddistill", "offline", epochs=8)
    deployed = trained.networks["student"].module
    assert isinstance(deployed, ReusedClassifier)
    assert deployed.head is whole.distiller.networks["teacher"].module.head
    assert trained.curves["train.student.embeddings"][-1] < 0.9 * trained.curves["train.student.embeddings"][0]
    assert trained.curves["validation.student.top1"][-1] > 40
