"""Tiny real networks and batches, on which a method's contract is tried in seconds on a CPU."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adm_core.align import resize_map
from adm_core.batch import Batch
from adm_core.taps import Network

CLASSES, SIDE, EXAMPLES = 10, 16, 12
VOID_EXAMPLE = 1
"""The example of a batch of pixels in which nothing is valid."""

Form = Literal["images", "pixels"]
"""What is classified: whole images, or every pixel of them."""


class TinyNet(nn.Module):
    """Three convolutional stages (sides 8, 4, 4 for inputs of 16) and a linear classifier.

    The first stage begins with a normalisation of its input, which no convolution can take in.
    """

    def __init__(self, width: int, classes: int = CLASSES) -> None:
        super().__init__()
        self.stages = _stages(width, strides=(2, 2, 1))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, 3, H, W] → logits [B, K]."""
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.head(self.pool(x))
        return logits


class TinyDenseNet(nn.Module):
    """Three convolutional stages (side 8 each for inputs of 16), a classifier at every position, an auxiliary one."""

    def __init__(self, width: int, classes: int = CLASSES) -> None:
        super().__init__()
        self.stages = _stages(width, strides=(2, 1, 1))
        self.penultimate = nn.Sequential(nn.Conv2d(4 * width, 2 * width, 1), nn.ReLU())
        self.head = nn.Conv2d(2 * width, classes, 1)
        self.auxiliary = nn.Conv2d(2 * width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, 3, H, W] → logits [B, K, H / 2, W / 2]."""
        x = self.stages[1](self.stages[0](x))
        if self.training:
            self.auxiliary(x)
        logits: Tensor = self.head(self.penultimate(self.stages[2](x)))
        return logits


def _stages(width: int, strides: tuple[int, int, int]) -> nn.ModuleList:
    widths = [3, width, 2 * width, 4 * width]
    stages = nn.ModuleList(
        nn.Sequential(nn.Conv2d(a, b, 3, s, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
        for a, b, s in zip(widths[:-1], widths[1:], strides, strict=True)
    )
    stages[0].insert(0, nn.BatchNorm2d(3))  # type: ignore[operator]
    return stages


def tiny_network(width: int, seed: int = 0, form: Form = "images") -> Network:
    """A :class:`TinyNet` or :class:`TinyDenseNet` with its taps, initialised from ``seed``."""
    taps = {f"stage{i + 1}": f"stages.{i}" for i in range(3)} | {"logits": "head"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if form == "images":
            module: nn.Module = TinyNet(width).to(memory_format=torch.channels_last)
            return Network(f"tiny{width}", module, taps | {"penultimate": "pool"}, "head")
        module = TinyDenseNet(width).to(memory_format=torch.channels_last)
    taps |= {"penultimate": "penultimate", "auxiliary": "auxiliary"}
    return Network(f"tiny{width}", module, taps, auxiliary={"auxiliary": 0.4})


def tiny_batch(seed: int = 0, views: int = 1, form: Form = "images") -> Batch:
    """Random images and labels; of pixels a quarter is void, and of one example every one."""
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(EXAMPLES, 3, SIDE, SIDE, generator=generator) for _ in range(views)]
    inputs = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
    index = torch.arange(EXAMPLES)
    if form == "images":
        return Batch(inputs[0], inputs[-1], torch.randint(CLASSES, (EXAMPLES,), generator=generator), index)
    coarse = torch.randint(CLASSES, (EXAMPLES, SIDE // 4, SIDE // 4), generator=generator)
    valid = torch.rand(EXAMPLES, SIDE // 4, SIDE // 4, generator=generator) > 0.25
    valid[VOID_EXAMPLE] = False
    # Blocks of pixels, so that at any resolution that a tap has here a position is wholly valid or wholly void.
    target, mask = (x.repeat_interleave(4, 1).repeat_interleave(4, 2) for x in (coarse, valid))
    return Batch(inputs[0], inputs[-1], target, index, mask)


def task_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of logits against labels: [B, K] and [B] → [B], or [B, K, h, w] and [B, H, W] → [B, H, W]."""
    if prediction.dim() == 4:
        prediction = resize_map(prediction, (target.shape[1], target.shape[2]))
    return F.cross_entropy(prediction, target, reduction="none")
