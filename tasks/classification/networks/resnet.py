"""Residual networks for small images (He et al., "Deep residual learning", CVPR 2016, arXiv:1512.03385).

Shortcuts that change shape are 1x1 convolutions with batch normalisation, as the distillation literature has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from tasks.classification.networks.staged import (
    Sum,
    assemble,
    conv_bn,
    conv_bn_relu,
    initialise_convolutions,
)


def cifar_resnet(num_classes: int, depth: int, widths: Sequence[int], stem_stride: int = 1) -> nn.Sequential:
    """Three stages of basic blocks behind one 3x3 convolution; depth 6n+2 gives n blocks per stage.

    Args:
        num_classes: size of the prediction.
        depth: number of weighted layers, shortcuts not counted.
        widths: channels of the stem and of the three stages.
        stem_stride: 2 halves the image before the first stage: about a quarter of the computation.
    """
    stem, *stages = widths
    blocks = (depth - 2) // 6
    network = assemble(
        conv_bn_relu(3, stem, 3, stem_stride),
        [
            _stage(_basic, before, after, blocks, stride)
            for before, after, stride in zip([stem, *stages], stages, (1, 2, 2), strict=False)
        ],
        stages[-1],
        num_classes,
    )
    initialise_convolutions(network)
    return network


def resnet_bottleneck(num_classes: int, blocks: Sequence[int]) -> nn.Sequential:
    """Four stages of bottleneck blocks behind a 3x3 stem of stride 1: the ImageNet ResNet made for 32x32 images.

    Args:
        num_classes: size of the prediction.
        blocks: blocks per stage; 3, 4, 6, 3 for ResNet-50.
    """
    widths = (256, 512, 1024, 2048)
    network = assemble(
        conv_bn_relu(3, 64, 3),
        [
            _stage(_bottleneck, before, after, count, stride)
            for before, after, count, stride in zip((64, *widths), widths, blocks, (1, 2, 2, 2), strict=False)
        ],
        widths[-1],
        num_classes,
    )
    initialise_convolutions(network)
    return network


def _basic(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Two 3x3 convolutions."""
    return nn.Sequential(conv_bn_relu(inputs, outputs, 3, stride), conv_bn(outputs, outputs, 3))


def _bottleneck(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """1x1, 3x3, 1x1 at a quarter of the width; the stride sits in the 3x3 convolution."""
    inner = outputs // 4
    return nn.Sequential(
        conv_bn_relu(inputs, inner, 1), conv_bn_relu(inner, inner, 3, stride), conv_bn(inner, outputs, 1)
    )


def _stage(
    body: Callable[[int, int, int], nn.Module], inputs: int, outputs: int, count: int, stride: int
) -> nn.Sequential:
    """``count`` residual blocks, the first of which changes width and size; ends with the activation."""
    stage = nn.Sequential()
    for number in range(count):
        before, step = (inputs, stride) if number == 0 else (outputs, 1)
        same = before == outputs and step == 1
        shortcut = nn.Identity() if same else conv_bn(before, outputs, 1, step)
        stage.append(nn.Sequential(Sum(body(before, outputs, step), shortcut), nn.ReLU()))
    return stage
