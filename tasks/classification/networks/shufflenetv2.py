"""ShuffleNetV2 for small images (Ma et al., ECCV 2018, arXiv:1807.11164).

The stem is a 1x1 convolution and nothing is pooled before the first stage, as in the distillation literature, whose
version also keeps the framework's default initialisation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tasks.classification.networks.shufflenetv1 import ChannelShuffle
from tasks.classification.networks.staged import assemble, conv_bn, conv_bn_relu

_STEM = 24


class _SideBySide(nn.Module):
    """Two maps, their channels one after the other."""

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return torch.cat([one, other], dim=1)


class _Keeping(nn.Module):
    """Half of the channels pass untouched, the other half through 1x1, 3x3 per channel, 1x1; then a shuffle."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.body = nn.Sequential(
            conv_bn_relu(half, half, 1), conv_bn(half, half, 3, groups=half), conv_bn(half, half, 1)
        )
        self.activation = nn.ReLU()
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        passed, worked = x.chunk(2, dim=1)
        return self.mix(passed, self.body(worked))

    def mix(self, passed: Tensor, worked: Tensor) -> Tensor:
        """The halves [B, C/2, H, W], of which the second still lacks its activation, as one map."""
        mixed: Tensor = self.shuffle(torch.cat([passed, self.activation(worked)], dim=1))
        return mixed


class _Last(_Keeping):
    """The same at the end of a stage, where both halves can be tapped before the activation, as ``joined``."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.joined = _SideBySide()

    def mix(self, passed: Tensor, worked: Tensor) -> Tensor:
        self.joined(passed, worked)
        return super().mix(passed, worked)


class _Halving(nn.Module):
    """Two branches at half the size, each of half the output width, side by side; then a shuffle."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.short = nn.Sequential(conv_bn(inputs, inputs, 3, 2, groups=inputs), conv_bn_relu(inputs, half, 1))
        self.body = nn.Sequential(
            conv_bn_relu(inputs, half, 1), conv_bn(half, half, 3, 2, groups=half), conv_bn_relu(half, half, 1)
        )
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.shuffle(torch.cat([self.short(x), self.body(x)], dim=1))
        return mixed


def shufflenetv2(num_classes: int, widths: Sequence[int], blocks: Sequence[int], last: int) -> nn.Sequential:
    """Stages whose first block halves the size, the last one closed by a wide 1x1 convolution.

    Args:
        num_classes: size of the prediction.
        widths: channels of each stage, even numbers.
        blocks: blocks of each stage.
        last: channels of the closing convolution, hence of the last stage's map.
    """
    stages = [
        nn.Sequential(_Halving(before, after), *(_Keeping(after) for _ in range(count - 2)), _Last(after))
        for before, after, count in zip([_STEM, *widths], widths, blocks, strict=False)
    ]
    stages[-1].append(conv_bn_relu(widths[-1], last, 1))
    return assemble(conv_bn_relu(3, _STEM, 1), stages, last, num_classes)
