"""MobileNetV2 for small images (Sandler et al., CVPR 2018, arXiv:1801.04381).

As the distillation literature has it: strides adapted to 32x32 images, which shrink to 2x2, plain ReLU for ReLU6.
Bottlenecks end without an activation by design, so the maps of stages 1 to 3 are linear; the last stage ends with
the wide 1x1 convolution and its activation.
"""

from __future__ import annotations

from torch import nn

from tasks.classification.networks.staged import (
    Sum,
    assemble,
    conv_bn,
    conv_bn_relu,
    initialise_convolutions,
    initialise_head,
)

# (expansion, channels at full width, blocks, stride) of each group of blocks, group by stage
_STAGES = (
    ((1, 16, 1, 1), (6, 24, 2, 1)),
    ((6, 32, 3, 2),),
    ((6, 64, 4, 2), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)
_LAST = 1280


def mobilenetv2(num_classes: int, factor: float) -> nn.Sequential:
    """Four stages of inverted residual blocks behind a 3x3 stem of stride 2.

    Args:
        num_classes: size of the prediction.
        factor: width multiplier of everything but the last 1x1 convolution.
    """
    stem = int(32 * factor)
    stages, width = [], stem
    for groups in _STAGES:
        stage = nn.Sequential()
        for expansion, channels, blocks, stride in groups:
            outputs = int(channels * factor)
            for number in range(blocks):
                stage.append(_block(width, outputs, stride if number == 0 else 1, expansion))
                width = outputs
        stages.append(stage)
    stages[-1].append(conv_bn_relu(width, _LAST, 1))
    network = assemble(conv_bn_relu(3, stem, 3, 2), stages, _LAST, num_classes)
    initialise_convolutions(network)
    initialise_head(network)
    return network


def _block(inputs: int, outputs: int, stride: int, expansion: int) -> nn.Module:
    """Widen by 1x1, filter each channel by 3x3, narrow by 1x1 without activation; a shortcut where shapes agree."""
    inner = inputs * expansion
    body = nn.Sequential(
        conv_bn_relu(inputs, inner, 1),
        conv_bn_relu(inner, inner, 3, stride, groups=inner),
        conv_bn(inner, outputs, 1),
    )
    return Sum(body, nn.Identity()) if stride == 1 and inputs == outputs else body
