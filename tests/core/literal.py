"""Small numbers and the formulas of the literature on plain Python lists, for oracles that are literal loops."""

import math

import torch
import torch.nn.functional as F

from adm_core.method import View


def numbers(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def view(prediction, target, **features):
    return View(prediction, "class_logits", features, F.cross_entropy(prediction, target, reduction="none"))


def softmax(row, temperature=1.0):
    exps = [math.exp(value / temperature) for value in row]
    return [e / sum(exps) for e in exps]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))
