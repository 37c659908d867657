"""ShuffleNet for small images (Zhang et al., CVPR 2018, arXiv:1707.01083).

The stem is a 1x1 convolution and nothing is pooled before the first stage, as in the distillation literature, whose
version also keeps the framework's default initialisation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tasks.classification.networks.staged import Sum, assemble, conv_bn, conv_bn_relu

_STEM = 24


class ChannelShuffle(nn.Module):
    """Interleave the channels of ``groups`` equal groups, so that the next grouped convolution sees all of them."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] with its channels in a new order."""
        grouped: Tensor = x.unflatten(1, (self.groups, -1))
        return grouped.transpose(1, 2).flatten(1, 2)


class _Joined(nn.Module):
    """Two branches of the same input, their channels one after the other."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.body(x), self.shortcut(x)], dim=1)


def shufflenetv1(num_classes: int, groups: int, widths: Sequence[int], blocks: Sequence[int]) -> nn.Sequential:
    """Stages of shuffled bottleneck blocks, each of which halves the size in its first block.

    Args:
        num_classes: size of the prediction.
        groups: groups of the 1x1 convolutions.
        widths: channels of each stage.
        blocks: blocks of each stage.
    """
    stages = []
    for before, after, count in zip([_STEM, *widths], widths, blocks, strict=False):
        halving = _Joined(_body(before, after - before, 2, groups), nn.AvgPool2d(3, stride=2, padding=1))
        stage = nn.Sequential(halving, nn.ReLU())
        for _ in range(count - 1):
            stage.extend([Sum(_body(after, after, 1, groups), nn.Identity()), nn.ReLU()])
        stages.append(stage)
    return assemble(conv_bn_relu(3, _STEM, 1), stages, widths[-1], num_classes)


def _body(inputs: int, outputs: int, stride: int, groups: int) -> nn.Sequential:
    """Grouped 1x1, shuffle, 3x3 per channel, grouped 1x1, at a quarter of the output width."""
    inner = outputs // 4
    first_groups = 1 if inputs == _STEM else groups  # the stem has too few channels to divide
    return nn.Sequential(
        conv_bn_relu(inputs, inner, 1, groups=first_groups),
        ChannelShuffle(first_groups),
        conv_bn_relu(inner, inner, 3, stride, groups=inner),
        conv_bn(inner, outputs, 1, groups=groups),
    )
