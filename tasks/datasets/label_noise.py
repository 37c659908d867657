"""Wrong labels put into a training set: exactly as many as asked for, the same ones in every run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from adm_core.condition import LabelNoise
from adm_core.errors import AdmError
from adm_core.seeds import derive
from tasks.datasets.images import ImageSet, Indices, LabelledSet, balanced_choice, uniform

Set = TypeVar("Set", bound=LabelledSet)
SPREAD = 0.1
"""Standard deviation of how likely the pictures are to be mislabelled, under instance-dependent noise."""
_GRAIN = 256
"""Steps into which 1 is cut where pictures are projected, so that all sums are whole numbers and exact in any order."""


class Noisy(NamedTuple, Generic[Set]):
    """A training set with wrong labels.

    Attributes:
        train: the set, labels as networks are trained on them.
        flipped: positions of the wrong ones, ascending.
    """

    train: Set
    flipped: Indices

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the labels."""
        return hashlib.sha256(self.train.labels.astype("<i8").data).hexdigest()


def noisy(train: Set, noise: LabelNoise, taken_for: Mapping[str, str] | None = None) -> Noisy[Set]:
    """A training set with ``round(rate · N)`` wrong labels.

    - ``symmetric``: every class gives its share; the wrong label is each of the others, as likely.
    - ``asymmetric``: every class gives its share, and takes the label of the class that it is taken for: that of
      ``taken_for``, else the next one, the last one's being the first. N counts the examples of classes that are taken
      for another alone.
    - ``instance``: after Xia et al. (arXiv:2006.07836, algorithm 2). An example has a rate of its own, drawn from a
      normal distribution about ``rate`` with deviation :data:`SPREAD` that is cut to [0, 1], by which it is chosen; its
      wrong label is drawn from the softmax of the picture's pixels (0..1) times a random matrix of its class. They
      choose each example by itself, so that their overall rate comes out by chance.

    Args:
        train: validation must have been carved off before.
        noise: kind, rate and seed.
        taken_for: class name to class name; None: each for the next.

    Raises:
        AdmError: under instance noise, pictures that lie in files; fewer than two classes; or nobody to flip.
    """
    if len(train.classes) < 2:
        raise AdmError(f"label noise needs two classes or more, not {len(train.classes)}")
    seed = derive(noise.seed, "label noise", noise.kind)
    changes = {"symmetric": _symmetric, "asymmetric": _asymmetric(taken_for), "instance": _instance}
    make: Callable[[LabelledSet, float, int], tuple[Indices, Indices]] = changes[noise.kind]
    chosen, wrong = make(train, noise.rate, seed)
    if not len(chosen):
        raise AdmError(f"label noise: a rate of {noise.rate:g} of {len(train)} labels is none; raise it")
    labels = train.labels.copy()
    labels[chosen] = wrong
    return Noisy(replace(train, labels=labels), np.sort(chosen))  # type: ignore[type-var]


def _symmetric(train: LabelledSet, rate: float, seed: int) -> tuple[Indices, Indices]:
    classes = len(train.classes)
    chosen = balanced_choice(train.labels, classes, round(rate * len(train)), seed)
    steps = 1 + (uniform((seed, 1), len(chosen)) * (classes - 1)).astype(np.int64)
    return chosen, (train.labels[chosen] + steps) % classes


def _asymmetric(
    taken_for: Mapping[str, str] | None,
) -> Callable[[LabelledSet, float, int], tuple[Indices, Indices]]:
    def make(train: LabelledSet, rate: float, seed: int) -> tuple[Indices, Indices]:
        classes = train.classes
        target = np.roll(np.arange(len(classes), dtype=np.int64), -1)
        if taken_for is not None:
            target = np.array([classes.index(taken_for.get(name, name)) for name in classes], dtype=np.int64)
        able = np.flatnonzero(target[train.labels] != train.labels)
        labels = train.labels[able]
        chosen = able[balanced_choice(labels, len(classes), round(rate * len(able)), seed)]
        return chosen, target[train.labels[chosen]]

    return make


def _instance(train: LabelledSet, rate: float, seed: int) -> tuple[Indices, Indices]:
    if not isinstance(train, ImageSet):
        raise AdmError("instance noise reads the pictures, and these lie in files; take symmetric or asymmetric noise")
    low, high = ndtr((0 - rate) / SPREAD), ndtr((1 - rate) / SPREAD)
    own = rate + SPREAD * ndtri(low + (high - low) * uniform((seed, 1), len(train)))
    # the largest keys u^(1/w) are a weighted sample without replacement (Efraimidis and Spirakis, 2006)
    keys = np.log(uniform((seed, 2), len(train)) + 2.0**-54) / np.maximum(own, 2.0**-54)
    chosen = np.sort(np.argsort(-keys, kind="stable")[: round(rate * len(train))])
    drawn, wrong = uniform((seed, 3), len(chosen)), np.empty(len(chosen), dtype=np.int64)
    for label in np.unique(train.labels[chosen]):
        there = np.flatnonzero(train.labels[chosen] == label)
        wrong[there] = _by_picture(train, chosen[there], int(label), seed, drawn[there])
    return chosen, wrong


def _by_picture(train: ImageSet, index: Indices, label: int, seed: int, drawn: NDArray[np.float64]) -> Indices:
    """Another class than ``label`` for each of its pictures at ``index`` [M], by ``drawn`` in [0, 1) [M]."""
    pixels = train.images[index].reshape(len(index), -1).astype(np.float64)
    matrix = ndtri(uniform((seed, 4, label), pixels.shape[1] * len(train.classes)) + 2.0**-54)
    scores = pixels @ np.rint(matrix * _GRAIN).reshape(pixels.shape[1], -1) / (255 * _GRAIN)
    others = np.delete(scores, label, axis=1)
    shares = np.exp(others - others.max(1, keepdims=True)).cumsum(1)
    found = np.minimum((shares <= drawn[:, None] * shares[:, -1:]).sum(1), others.shape[1] - 1)
    return np.asarray(found + (found >= label), dtype=np.int64)
