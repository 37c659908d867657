"""Classifiers that methods train beside those of networks: on the maps of a stage, and on fused maps of networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil

from torch import nn

FUSED = 6
"""How many of the first modules of :func:`fused_classifier` make the fused map."""


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
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(stages[-1][1], classes))


def fused_classifier(widths: Sequence[int], classes: int) -> nn.Sequential:
    """From concatenated maps [B, Σ C, H, W] to logits [B, K]; its first :data:`FUSED` modules give the fused map.

    A depthwise 3×3 and a 1×1 convolution to the largest width, each with batch normalisation and ReLU, then a linear
    layer on the mean over positions (Kim et al., arXiv:1904.09058).

    Args:
        widths: C of each map.
        classes: K.
    """
    whole, width = sum(widths), max(widths)
    depthwise = nn.Conv2d(whole, whole, 3, padding=1, groups=whole, bias=False)
    layers: list[nn.Module] = [depthwise, nn.BatchNorm2d(whole), nn.ReLU()]
    layers += [nn.Conv2d(whole, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))
