"""A tiny real task for the training loop: coloured noise images, batches as a pure function of seed and step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_leaves

from adm_core import registry
from adm_core.batch import Batch
from adm_core.distiller import Distiller
from adm_core.method import Facts, Step
from adm_core.seeds import derive
from adm_core.task import Task
from adm_core.testing.networks import task_loss, tiny_batch, tiny_facts, tiny_network
from adm_core.train import Trainer

CLASSES = 4


def make_step(target, progress, generator, mask=None, noising=None):
    """The circumstances of a batch for losses that look at no input."""
    empty = torch.zeros(len(target), 3, 1, 1)
    batch = Batch(empty, empty, target, torch.arange(len(target)), mask, noising=noising)
    return Step(batch, progress, generator)


class ToyTask:
    """Images whose class is the brightest quadrant."""

    kind = "class_logits"
    metric = "top1"
    higher_is_better = True
    shares = Task.shares

    def __init__(self, steps_per_epoch=6, batch=16, has_validation=True, seed=0):
        self.steps_per_epoch, self.batch, self.has_validation, self.seed = steps_per_epoch, batch, has_validation, seed
        self.seen = []

    def images(self, count, seed):
        g = torch.Generator().manual_seed(seed)
        target = torch.randint(CLASSES, (count,), generator=g)
        x = torch.randn(count, 3, 16, 16, generator=g)
        for i, c in enumerate(target.tolist()):
            x[i, :, 8 * (c // 2) : 8 * (c // 2) + 8, 8 * (c % 2) : 8 * (c % 2) + 8] += 1.0
        return x, target

    def batches(self, epoch, start):
        for step in range(start, self.steps_per_epoch):
            self.seen.append((epoch, step))
            x, y = self.images(self.batch, derive(self.seed, epoch, step))
            yield Batch(x, x, y, torch.arange(self.batch))

    def task_loss(self, prediction, batch):
        return F.cross_entropy(prediction, batch.target, reduction="none")

    def evaluate(self, networks, split):
        x, y = self.images(200, 1 if split == "validation" else 2)
        with torch.no_grad():
            accuracy = {r: 100 * float((n.module(x).argmax(1) == y).float().mean()) for r, n in networks.items()}
        return {role: {"top1": value} for role, value in accuracy.items()}


def widths(method, regime):
    """Width of every network that a method wants in a regime, by role."""
    wanted, needs = {"student": 8}, method.needs
    if regime in ("offline", "online"):
        wanted["teacher"] = 12
    if regime == "peers":
        wanted |= {f"peer{number}": 8 for number in range(1, needs.peers + 1)}
    if needs.branches and regime != "alone":
        wanted |= {f"branch{number}": 8 for number in range(2, needs.branches.count + 1)}
    return wanted


def trainer(recipe, method="dml+adm", regime="online", task=None, seed=0, settings=None, dropout=0.0, **kwargs):
    torch.manual_seed(seed)
    task, made = task or ToyTask(), registry.create(method, settings)
    networks = {role: tiny_network(w, seed + i) for i, (role, w) in enumerate(widths(made, regime).items())}
    for net in networks.values():
        net.module.head = torch.nn.Linear(net.module.head.in_features, CLASSES)
        if dropout:
            net.module.stages[1].append(torch.nn.Dropout(dropout))
    distiller = Distiller(
        networks, made, regime, task.task_loss, "class_logits",
        (torch.zeros(2, 3, 16, 16),), Facts(16, CLASSES, None, 6, 16),
    )  # fmt: skip
    if made.needs.teacher_pass:
        made.know(distiller.prepare(ToyTask(seed=task.seed).batches(0, 0)))
    return Trainer(distiller, task, recipe, seed, **kwargs)


def weights(t):
    """Everything in a trainer's distiller as tensors; what a module keeps in a structure, leaf by leaf."""
    state = t.distiller.state_dict()
    leaves = {k: tree_leaves(v) for k, v in state.items() if isinstance(v, dict)}
    plain = {k: v for k, v in state.items() if k not in leaves}
    plain |= {f"{k}.{n}": leaf for k, each in leaves.items() for n, leaf in enumerate(each)}
    return {k: torch.as_tensor(v).clone() for k, v in plain.items()}


class NoisyTask:
    """Random images under noise, for denoisers."""

    kind, metric, higher_is_better, has_validation = "denoiser", "none", False, False
    shares = Task.shares

    def __init__(self, steps_per_epoch, stop_at=None):
        self.steps_per_epoch, self.stop_at, self.seen = steps_per_epoch, stop_at, []

    def batches(self, epoch, start):
        for step in range(start, self.steps_per_epoch):
            if (epoch, step) == self.stop_at:
                raise InterruptedError
            self.seen.append((epoch, step))
            yield tiny_batch(derive(0, epoch, step), form="denoisers")

    def task_loss(self, prediction, batch):
        return task_loss(prediction, batch)


def denoising_trainer(recipe, method, task, **kwargs):
    """A trainer of two tiny denoisers of one architecture, the teacher frozen."""
    pair = {role: tiny_network(8, seed, "denoisers") for seed, role in enumerate(("student", "teacher"))}
    batch = tiny_batch(form="denoisers")
    example = (batch.student_input, *batch.conditions)
    facts = tiny_facts("denoisers")
    distiller = Distiller(pair, registry.create(method), "offline", task.task_loss, "denoiser", example, facts)
    return Trainer(distiller, task, recipe, 0, **kwargs)
