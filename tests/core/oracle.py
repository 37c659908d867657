"""Views of networks that train together, methods in float64 on them, and what a literal loop must agree with."""

from dataclasses import replace

import torch

from adm_core import registry
from adm_core.method import Facts
from tests.core.literal import numbers, view
from tests.core.toy import make_step

B, K = 6, 5
TARGET = torch.tensor([3, 1, 0, 4, 4, 2])
STAGES = {"all-stages.1": (4, 8), "all-stages.2": (6, 4), "all-stages.3": (6, 4)}
PAIRS = [("student", "teacher"), ("student", "peer1")]


def soft(row, t=1.0):
    exps = [(z / t).exp() for z in row]
    return [e / sum(exps) for e in exps]


def kl(target, own, t=1.0):
    """T² KL(target || own), mean over examples, one class after the other."""
    rows = [zip(soft(p, t), soft(q, t), strict=True) for p, q in zip(target, own, strict=True)]
    return mean(t * t * sum(p * (p.log() - q.log()) for p, q in row) for row in rows)


def ce(logits):
    return mean(-soft(row)[label].log() for row, label in zip(logits, TARGET.tolist(), strict=True))


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def leaf(seed, *shape):
    return numbers(seed, *shape).requires_grad_()


def shown(roles, maps=None, widths=None):
    """Views by role with leaves as predictions and maps, tap to (channels, side); a factor of width by role."""
    views = {}
    for place, role in enumerate(roles):
        factor = (widths or {}).get(role, 1)
        features = {
            tap: leaf(100 * place + number, B, factor * c, *([side, side] if side else []))
            for number, (tap, (c, side)) in enumerate((maps or {}).items(), start=1)
        }
        views[role] = view(leaf(place, B, K), TARGET, **features)
    return views


def shapes(own):
    return {"prediction": (B, K)} | {tap: tuple(value.shape) for tap, value in own.features.items()}


def made(name, views, **settings):
    """The method with its parts in float64."""
    method = registry.create(name, {name: settings})
    other = next((own for role, own in views.items() if role != "student"), views["student"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = method.build(shapes(views["student"]), shapes(other), Facts(B, K, TARGET, 1, B, roles=tuple(views)))
    method.take({key: part.double() for key, part in parts.items()})
    return method


def losses(method, views, progress=0.5, copies=None):
    step = replace(make_step(TARGET, progress, torch.Generator()), views=views)
    if copies:
        step = replace(step, copies=copies)
    return method.losses(views["student"], views.get("teacher"), step)


def by_role(found):
    every = {"student": found.student, "teacher": found.teacher, "parts": found.parts, **found.peers}
    return {role: terms for role, terms in every.items() if terms}


def leaves(views):
    every = [v for own in views.values() for v in (own, *own.branches)]
    return [x for own in every for x in (own.prediction, *own.features.values()) if x.is_leaf and x.requires_grad]


def agree(found, expected, inputs):
    """Every term has its value, and its gradient at every input, zero where the input does not reach it."""
    assert {role: set(terms) for role, terms in by_role(found).items()} == {r: set(t) for r, t in expected.items()}
    for role, terms in by_role(found).items():
        for name, term in terms.items():
            torch.testing.assert_close(term, expected[role][name], rtol=1e-6, atol=1e-12)
            ours, theirs = (
                torch.autograd.grad(x, inputs, retain_graph=True, allow_unused=True, materialize_grads=True)
                for x in (term, expected[role][name])
            )
            for a, b in zip(ours, theirs, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8, msg=f"gradient of {role}.{name}")
