"""Wide residual networks (Zagoruyko & Komodakis, BMVC 2016, arXiv:1605.07146).

These are pre-activated: batch normalisation and ReLU stand before convolutions. A block that changes width feeds the
activated map to both of its branches, so that activation is written here as the end of the stage before it. The
computation is the paper's; what it buys is that every stage ends with its activated map.
"""

from __future__ import annotations

from torch import nn

from tasks.classification.networks.staged import Sum, assemble, convolution, initialise_convolutions

_STEM = 16


def wrn(num_classes: int, depth: int, factor: int) -> nn.Sequential:
    """Three stages of pre-activated blocks of ``factor`` times 16, 32, 64 channels; depth 6n+4 gives n per stage.

    Args:
        num_classes: size of the prediction.
        depth: number of convolutions, those of widening shortcuts counted once per stage, plus the classifier.
        factor: how much wider than the plain network.
    """
    widths = [factor * width for width in (16, 32, 64)]
    stem = nn.Sequential(convolution(3, _STEM, 3))
    if widths[0] != _STEM:
        stem.extend(_activation(_STEM))
    stages = [
        _stage(before, after, (depth - 4) // 6, stride)
        for before, after, stride in zip([_STEM, *widths], widths, (1, 2, 2), strict=False)
    ]
    network = assemble(stem, stages, widths[-1], num_classes)
    initialise_convolutions(network)
    nn.init.zeros_(network.get_parameter("head.bias"))
    return network


def _activation(width: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(width), nn.ReLU())


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    """Blocks, then the activation that their sum still lacks."""
    first = _keeping(outputs) if inputs == outputs else _widening(inputs, outputs, stride)
    return nn.Sequential(first, *(_keeping(outputs) for _ in range(blocks - 1)), *_activation(outputs))


def _widening(inputs: int, outputs: int, stride: int) -> Sum:
    """The first block of a stage; it expects an activated map."""
    body = nn.Sequential(
        convolution(inputs, outputs, 3, stride), *_activation(outputs), convolution(outputs, outputs, 3)
    )
    return Sum(body, convolution(inputs, outputs, 1, stride))


def _keeping(width: int) -> Sum:
    """A block that keeps width and size; its shortcut carries the map from before the activation."""
    body = nn.Sequential(
        *_activation(width), convolution(width, width, 3), *_activation(width), convolution(width, width, 3)
    )
    return Sum(body, nn.Identity())
