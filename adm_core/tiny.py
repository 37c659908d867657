"""Tiny real networks and batches, on which a method's contract is tried in seconds on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adm_core.batch import Batch
from adm_core.taps import Network

CLASSES, SIDE, EXAMPLES = 10, 16, 12


class TinyNet(nn.Module):
    """Three convolutional stages (sides 8, 4, 4 for inputs of 16) and a linear classifier.

    The first stage begins with a normalisation of its input, which no convolution can take in.
    """

    def __init__(self, width: int, classes: int = CLASSES) -> None:
        super().__init__()
        widths, strides = [3, width, 2 * width, 4 * width], [2, 2, 1]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, s, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b, s in zip(widths[:-1], widths[1:], strides, strict=True)
        )
        self.stages[0].insert(0, nn.BatchNorm2d(3))  # type: ignore[operator]
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, 3, H, W] → logits [B, K]."""
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.head(self.pool(x))
        return logits


def tiny_network(width: int, seed: int = 0) -> Network:
    """A :class:`TinyNet` with its taps, initialised from ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = TinyNet(width).to(memory_format=torch.channels_last)
    taps = {f"stage{i + 1}": f"stages.{i}" for i in range(3)} | {"penultimate": "pool", "logits": "head"}
    return Network(f"tiny{width}", module, taps, "head")


def tiny_batch(seed: int = 0, views: int = 1) -> Batch:
    """Random images and labels."""
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(EXAMPLES, 3, SIDE, SIDE, generator=generator) for _ in range(views)]
    inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
    target = torch.randint(CLASSES, (EXAMPLES,), generator=generator)
    return Batch(inputs[0], inputs[-1], target, torch.arange(EXAMPLES))


def task_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of logits [B, K] against labels [B], per example [B]."""
    return F.cross_entropy(prediction, target, reduction="none")
