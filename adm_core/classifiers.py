"""Blocks and classifiers that methods train beside those of networks, on maps [B, C, H, W]."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil

from torch import nn


def separable_block(width: int, after: int) -> nn.Sequential:
    """A depthwise 3×3 and a 1×1 convolution, each with batch normalisation and ReLU: [B, C, H, W] → [B, C', H, W].

    Args:
        width: C.
        after: C'.
    """
    depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
    layers: list[nn.Module] = [depthwise, nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, after, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


def pooled_classifier(width: int, classes: int) -> nn.Sequential:
    """A linear layer on the mean over positions: [B, C, H, W] → logits [B, K]."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def auxiliary_classifier(stages: Sequence[tuple[int, ...]], classes: int) -> nn.Sequential:
    """From a map of the first shape [B, C, H, W] to logits [B, K], by way of the widths and sizes of the others.

    For every further stage one 3×3 convolution of its width and stride, batch normalisation and ReLU; all but the last
    module, a linear layer, give the mean over positions, [B, C of the last stage].

    Args:
        stages: shapes [B, C, H, W] from that of the map on, in the order of the network.
        classes: K.
    """
    layers: list[nn.Module] = []
    for (_, width, height, _), (_, after, smaller, _) in pairwise(stages):
        convolution = nn.Conv2d(width, after, 3, ceil(height / smaller), padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, *pooled_classifier(stages[-1][1], classes))
